#include "models/blocks.h"

#include <algorithm>
#include <cmath>

namespace venturi {

std::string layer_name(int64_t layer, const char* suffix) {
  return fmt::format("blk.{}.{}", layer, suffix);
}

Result<Norm> Norm::declare(WeightCatalog& catalog, const std::string& name, int64_t n,
                           NormKind kind, float epsilon) {
  Norm norm{.kind = kind, .epsilon = epsilon};
  norm.weight = TRY(catalog.vector(name + ".weight", n));
  if (kind == NormKind::kLayer) norm.bias = TRY(catalog.optional_vector(name + ".bias", n));
  return norm;
}

Act Norm::run(Context& context, const Act& x) const {
  if (kind == NormKind::kLayer) return layer_norm(context, x, *weight, bias, epsilon);
  return rms_norm(context, x, *weight, epsilon);
}

Result<AttentionBlock> AttentionBlock::declare(WeightCatalog& catalog, int64_t layer,
                                               const TransformerHyper& h, const Needs& needs) {
  AttentionBlock b;
  const int64_t q_width = h.n_heads * h.head_dim, k_width = h.n_kv_heads * h.head_dim;
  const int64_t v_width = h.n_kv_heads * h.v_head_dim, o_width = h.n_heads * h.v_head_dim;
  const auto name = [&](const char* suffix) { return layer_name(layer, suffix); };
  const auto vector = [&](const char* suffix, int64_t n, bool needed) {
    return needed ? catalog.vector(name(suffix), n) : catalog.optional_vector(name(suffix), n);
  };
  const int64_t qkv_width = q_width + k_width + v_width;
  b.qkv = TRY(catalog.optional_matrix(name("attn_qkv.weight"), h.d_model, qkv_width));
  if (b.qkv) {
    b.qkv_bias = TRY(vector("attn_qkv.bias", qkv_width, needs.qkv_bias));
  } else {
    b.q = TRY(catalog.matrix(name("attn_q.weight"), h.d_model, q_width));
    b.k = TRY(catalog.matrix(name("attn_k.weight"), h.d_model, k_width));
    b.v = TRY(catalog.matrix(name("attn_v.weight"), h.d_model, v_width));
    b.q_bias = TRY(vector("attn_q.bias", q_width, needs.qkv_bias));
    b.k_bias = TRY(vector("attn_k.bias", k_width, needs.qkv_bias));
    b.v_bias = TRY(vector("attn_v.bias", v_width, needs.qkv_bias));
  }
  b.o = TRY(catalog.matrix(name("attn_output.weight"), o_width, h.d_model));
  b.o_bias = TRY(vector("attn_output.bias", h.d_model, false));
  b.q_norm = TRY(vector("attn_q_norm.weight", h.head_dim, needs.head_norms));
  b.k_norm = TRY(vector("attn_k_norm.weight", h.head_dim, needs.head_norms));
  b.norm_epsilon = h.norm_epsilon;
  b.params = {.slot = static_cast<int>(layer),
              .n_heads = static_cast<int>(h.n_heads),
              .n_kv_heads = static_cast<int>(h.n_kv_heads),
              .k_dim = static_cast<int>(h.head_dim),
              .v_dim = static_cast<int>(h.v_head_dim),
              .scale = 1.0f / std::sqrt(static_cast<float>(h.head_dim))};
  return b;
}

Act AttentionBlock::run(Context& context, const Step& step, Act x) const {
  std::vector<Act> parts;
  if (qkv) {
    Act fused = linear(context, *qkv, x);
    x.reset();
    add_bias(context, fused, qkv_bias);
    const int64_t q_width = int64_t{params.n_heads} * params.k_dim;
    const int64_t k_width = int64_t{params.n_kv_heads} * params.k_dim;
    parts.push_back(take_columns(context, fused, 0, q_width));
    parts.push_back(take_columns(context, fused, q_width, k_width));
    parts.push_back(
        take_columns(context, fused, q_width + k_width, params.n_kv_heads * params.v_dim));
  } else {
    const Weight* weights[] = {q, k, v};
    parts = linear(context, weights, x);
    x.reset();
    add_bias(context, parts[0], q_bias);
    add_bias(context, parts[1], k_bias);
    add_bias(context, parts[2], v_bias);
  }
  if (q_norm) rms_norm_heads(context, parts[0], params.n_heads, *q_norm, norm_epsilon);
  if (k_norm) rms_norm_heads(context, parts[1], params.n_kv_heads, *k_norm, norm_epsilon);
  Act mixed = attend(context, step, params, parts[0], parts[1], parts[2]);
  parts.clear();
  Act out = linear(context, *o, mixed);
  add_bias(context, out, o_bias);
  return out;
}

Result<Activation> read_activation(const Hyper& hyper, Activation otherwise) {
  constexpr const char* kKey = "hidden_activation";
  constexpr std::pair<std::string_view, Activation> kNames[] = {
      {"silu", Activation::kSilu},     {"swish", Activation::kSilu},
      {"gelu", Activation::kGeluErf},  {"gelu_new", Activation::kGelu},
      {"gelu_pytorch_tanh", Activation::kGelu}, {"relu", Activation::kRelu},
      {"relu2", Activation::kRelu2}};
  const std::string name = TRY(hyper.metadata().string_or(hyper.key(kKey), ""));
  if (name.empty()) return otherwise;
  std::string known;
  for (const auto& [candidate, activation] : kNames) {
    if (candidate == name) return activation;
    known += fmt::format("{}{}", known.empty() ? "" : ", ", candidate);
  }
  return error(Code::kUnsupported, "{} is '{}'; known are {}", hyper.key(kKey), name, known);
}

Result<FeedForward> FeedForward::declare(WeightCatalog& catalog, int64_t layer, int64_t d_model,
                                         int64_t d_ff, bool gated, Activation activation,
                                         const char* suffix) {
  FeedForward f;
  f.activation = activation;
  const auto name = [&](const char* part, const char* kind) {
    return fmt::format("blk.{}.ffn_{}{}.{}", layer, part, suffix, kind);
  };
  if (gated) {
    f.gate = TRY(catalog.matrix(name("gate", "weight"), d_model, d_ff));
    f.gate_bias = TRY(catalog.optional_vector(name("gate", "bias"), d_ff));
  }
  f.up = TRY(catalog.matrix(name("up", "weight"), d_model, d_ff));
  f.up_bias = TRY(catalog.optional_vector(name("up", "bias"), d_ff));
  f.down = TRY(catalog.matrix(name("down", "weight"), d_ff, d_model));
  f.down_bias = TRY(catalog.optional_vector(name("down", "bias"), d_model));
  return f;
}

Act FeedForward::run(Context& context, Act x) const {
  const NeuronLayer neurons{gate, up, down};
  if (zero_below_zero(activation)) context.note_neurons(neurons);
  Act hidden;
  if (down->bundles) {
    Act y = sparse_feed_forward(context, neurons, {gate_bias, up_bias}, activation, std::move(x));
    add_bias(context, y, down_bias);
    return y;
  }
  if (gate) {
    const Weight* weights[] = {gate, up};
    auto both = linear(context, weights, x);
    x.reset();
    add_bias(context, both[0], gate_bias);
    add_bias(context, both[1], up_bias);
    gated_in_place(context, activation, both[0], &both[1]);
    hidden = std::move(both[0]);  // the other half is gone at the end of this scope
  } else {
    hidden = linear(context, *up, x);
    x.reset();
    add_bias(context, hidden, up_bias);
    gated_in_place(context, activation, hidden, nullptr);
  }
  Act y = linear(context, *down, hidden);
  add_bias(context, y, down_bias);
  return y;
}

namespace {

// body(context, begin, n) for rows [begin, begin + n), tile by tile, each in the same workspace.
template <typename Body>
void by_tiles(Context& context, const void* whose, int64_t rows, Body body) {
  const int64_t tile = context.row_tile() > 0 ? std::min(rows, context.row_tile()) : rows;
  const Context::Workspace workspace(
      context, context.workspace_bytes(whose, tile, [&](Context& shape) { body(shape, 0, tile); }));
  for (int64_t begin = 0; begin < rows; begin += tile) {
    const Context::RowScope seen(context, begin, std::min(tile, rows - begin));
    body(context, begin, std::min(tile, rows - begin));
  }
}

}  // namespace

void add_feed_forward(Context& context, const Norm& norm, const FeedForward& ffn, const Norm* post,
                      Act& x) {
  by_tiles(context, &ffn, x.rows(), [&](Context& c, int64_t begin, int64_t n) {
    Act part = x.view(begin, n);
    Act y = ffn.run(c, norm.run(c, part));
    if (post) y = post->run(c, y);
    add_in_place(c, part, y);
  });
}

Result<MixtureBlock> MixtureBlock::declare(WeightCatalog& catalog, int64_t layer, int64_t d_model,
                                           int64_t expert_ff, int64_t shared_ff,
                                           const RouterParams& params, Activation activation) {
  MixtureBlock m;
  m.params = params;
  const int64_t n = params.n_experts;
  const auto name = [&](const char* suffix) { return layer_name(layer, suffix); };
  m.router = TRY(catalog.matrix(name("ffn_gate_inp.weight"), d_model, n));
  m.params.selection_bias = TRY(catalog.optional_vector(name("exp_probs_b.bias"), n));
  m.experts.gate = TRY(catalog.matrix(name("ffn_gate_exps.weight"), d_model, expert_ff, n));
  m.experts.up = TRY(catalog.matrix(name("ffn_up_exps.weight"), d_model, expert_ff, n));
  m.experts.down = TRY(catalog.matrix(name("ffn_down_exps.weight"), expert_ff, d_model, n));
  m.experts.activation = activation;
  catalog.add_experts({.gate = m.experts.gate,
                       .up = m.experts.up,
                       .down = m.experts.down,
                       .chosen_early = params.early});
  if (shared_ff > 0)
    m.shared =
        TRY(FeedForward::declare(catalog, layer, d_model, shared_ff, true, activation, "_shexp"));
  return m;
}

ChosenExperts MixtureBlock::choose(Context& context, const Act& x) const {
  Act logits = linear(context, *router, x);
  Routes routes = route(context, params, logits);
  return begin_mixture(context, std::move(routes), experts, params.early);
}

Act MixtureBlock::run(Context& context, Act x) const {
  const ChosenExperts chosen = choose(context, x);
  return run(context, std::move(x), chosen);
}

Act MixtureBlock::run(Context& context, Act x, const ChosenExperts& chosen) const {
  if (!shared) return mixture(context, std::move(x), chosen, experts);
  // It lies above what the experts leave: a hole for the shared expert's tiles, but not for all rows at once.
  Act y;
  if (context.row_tile() == 0) y = context.allocate(x.rows(), x.cols());
  mixture_into(context, x, chosen, experts, y);
  by_tiles(context, &*shared, x.rows(), [&](Context& c, int64_t begin, int64_t n) {
    const Act part = x.view(begin, n);
    Act common = shared->run(c, x.view(begin, n));
    if (shared_gate) gate_rows_in_place(c, common, linear(c, *shared_gate, part));
    Act sum = y.view(begin, n);
    add_in_place(c, sum, common);
  });
  return y;
}

Result<Weight*> declare_head(WeightCatalog& catalog, int64_t d_model, int64_t vocab_size) {
  if (catalog.has("output.weight")) return catalog.matrix("output.weight", d_model, vocab_size);
  return catalog.matrix("token_embd.weight", d_model, vocab_size);
}

Act output(Context& context, const Step& step, const Norm& norm, const Weight& head, Act x) {
  // All of them are not copied first.
  if (static_cast<int64_t>(step.output_rows.size()) < x.rows()) x = take_output_rows(context, x, step.output_rows);
  Act last = norm.run(context, x);
  x.reset();
  return step.hidden ? std::move(last) : linear(context, head, last);
}

std::vector<int32_t> row_positions(const Step& step) {
  std::vector<int32_t> positions(static_cast<size_t>(step.n_rows()));
  for (const Span& span : step.spans)
    for (int64_t r = 0; r < span.n_rows; ++r)
      positions[span.row_begin + r] = static_cast<int32_t>(span.position + r);
  return positions;
}

}  // namespace venturi
