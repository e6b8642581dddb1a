#include "models/blocks.h"

#include <cmath>

namespace venturi {

std::string layer_name(int64_t layer, const char* suffix) { return fmt::format("blk.{}.{}", layer, suffix); }

Result<AttentionBlock> AttentionBlock::declare(WeightCatalog& catalog, int64_t layer, const TransformerHyper& h) {
  AttentionBlock b;
  const int64_t q_width = h.n_heads * h.head_dim, k_width = h.n_kv_heads * h.head_dim;
  const int64_t v_width = h.n_kv_heads * h.v_head_dim, o_width = h.n_heads * h.v_head_dim;
  b.q = TRY(catalog.matrix(layer_name(layer, "attn_q.weight"), h.d_model, q_width));
  b.k = TRY(catalog.matrix(layer_name(layer, "attn_k.weight"), h.d_model, k_width));
  b.v = TRY(catalog.matrix(layer_name(layer, "attn_v.weight"), h.d_model, v_width));
  b.o = TRY(catalog.matrix(layer_name(layer, "attn_output.weight"), o_width, h.d_model));
  b.q_bias = TRY(catalog.optional_vector(layer_name(layer, "attn_q.bias"), q_width));
  b.k_bias = TRY(catalog.optional_vector(layer_name(layer, "attn_k.bias"), k_width));
  b.v_bias = TRY(catalog.optional_vector(layer_name(layer, "attn_v.bias"), v_width));
  b.o_bias = TRY(catalog.optional_vector(layer_name(layer, "attn_output.bias"), h.d_model));
  b.q_norm = TRY(catalog.optional_vector(layer_name(layer, "attn_q_norm.weight"), h.head_dim));
  b.k_norm = TRY(catalog.optional_vector(layer_name(layer, "attn_k_norm.weight"), h.head_dim));
  b.norm_epsilon = h.norm_epsilon;
  b.params = {.slot = static_cast<int>(layer), .n_heads = static_cast<int>(h.n_heads),
              .n_kv_heads = static_cast<int>(h.n_kv_heads), .k_dim = static_cast<int>(h.head_dim),
              .v_dim = static_cast<int>(h.v_head_dim),
              .scale = 1.0f / std::sqrt(static_cast<float>(h.head_dim))};
  return b;
}

Act AttentionBlock::run(Context& context, const Step& step, const Act& x) const {
  const Weight* weights[] = {q, k, v};
  auto qkv = linear(context, weights, x);
  add_bias(context, qkv[0], q_bias);
  add_bias(context, qkv[1], k_bias);
  add_bias(context, qkv[2], v_bias);
  if (q_norm) rms_norm_heads(context, qkv[0], params.n_heads, *q_norm, norm_epsilon);
  if (k_norm) rms_norm_heads(context, qkv[1], params.n_kv_heads, *k_norm, norm_epsilon);
  Act mixed = attend(context, step, params, qkv[0], qkv[1], qkv[2]);
  qkv.clear();
  Act out = linear(context, *o, mixed);
  add_bias(context, out, o_bias);
  return out;
}

Result<GatedFeedForward> GatedFeedForward::declare(WeightCatalog& catalog, int64_t layer, int64_t d_model, int64_t d_ff) {
  GatedFeedForward f;
  f.gate = TRY(catalog.matrix(layer_name(layer, "ffn_gate.weight"), d_model, d_ff));
  f.up = TRY(catalog.matrix(layer_name(layer, "ffn_up.weight"), d_model, d_ff));
  f.down = TRY(catalog.matrix(layer_name(layer, "ffn_down.weight"), d_ff, d_model));
  return f;
}

Act GatedFeedForward::run(Context& context, const Act& x) const {
  const Weight* weights[] = {gate, up};
  auto both = linear(context, weights, x);
  gated_in_place(context, activation, both[0], &both[1]);
  both[1].reset();
  return linear(context, *down, both[0]);
}

Result<Weight*> declare_head(WeightCatalog& catalog, int64_t d_model, int64_t vocab_size) {
  if (catalog.has("output.weight")) return catalog.matrix("output.weight", d_model, vocab_size);
  return catalog.matrix("token_embd.weight", d_model, vocab_size);
}

}  // namespace venturi
