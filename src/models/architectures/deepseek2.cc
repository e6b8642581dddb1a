// DeepSeek V2 (arXiv 2405.04434) and V3 (arXiv 2412.19437): attention over a latent, and mixtures
// of many small experts.
//
// Keys and values of all heads are linear in one latent per token, so they are never formed: a
// query is multiplied into the latent's space (by its head's key matrix), attends to
// [rotated part | latent] as one KV head, and what comes back is a mixed latent, which the head's
// value matrix turns into its output. The state holds kv_rank + n_rot values per token.
#include <cmath>

#include "models/blocks.h"
#include "ops/heads.h"

namespace venturi {

namespace {

struct LatentHyper {
  int64_t n_layers, d_model, n_heads, vocab_size, context, d_ff;
  int64_t q_rank, kv_rank, n_rot, nope_dim, v_dim;  // q_rank 0: queries straight from x
  int64_t n_dense;                                  // leading layers without a mixture
  float epsilon, scale;
};

class LatentAttention {
 public:
  static Result<LatentAttention> declare(WeightCatalog& catalog, int64_t layer,
                                         const LatentHyper& h, const Rope& rope) {
    LatentAttention b;
    const auto name = [&](const char* suffix) { return layer_name(layer, suffix); };
    const auto norm = [&](const char* suffix, int64_t n) {
      return Norm::declare(catalog, name(suffix), n, NormKind::kRms, h.epsilon);
    };
    const int64_t q_width = h.n_heads * (h.nope_dim + h.n_rot);
    if (h.q_rank > 0) {
      b.q_a_ = TRY(catalog.matrix(name("attn_q_a.weight"), h.d_model, h.q_rank));
      b.q_a_norm_ = TRY(norm("attn_q_a_norm", h.q_rank));
      b.q_ = TRY(catalog.matrix(name("attn_q_b.weight"), h.q_rank, q_width));
    } else {
      b.q_ = TRY(catalog.matrix(name("attn_q.weight"), h.d_model, q_width));
    }
    b.kv_a_ = TRY(catalog.matrix(name("attn_kv_a_mqa.weight"), h.d_model, h.kv_rank + h.n_rot));
    b.kv_a_norm_ = TRY(norm("attn_kv_a_norm", h.kv_rank));
    // Older files: per head, rows of the key matrix, then of the value matrix. Newer ones: the key
    // matrix transposed, and the value matrix, each as a stack of heads.
    if (catalog.has(name("attn_kv_b.weight"))) {
      const int64_t head_rows = h.nope_dim + h.v_dim;
      b.k_rows_ = TRY(
          catalog.slice(name("attn_kv_b.weight"), h.kv_rank, h.n_heads, head_rows, 0, h.nope_dim));
      b.v_ = TRY(catalog.slice(name("attn_kv_b.weight"), h.kv_rank, h.n_heads, head_rows,
                               h.nope_dim, h.v_dim));
    } else {
      b.k_ = TRY(catalog.matrix(name("attn_k_b.weight"), h.nope_dim, h.kv_rank, h.n_heads));
      b.v_ = TRY(catalog.matrix(name("attn_v_b.weight"), h.kv_rank, h.v_dim, h.n_heads));
    }
    b.o_ = TRY(catalog.matrix(name("attn_output.weight"), h.n_heads * h.v_dim, h.d_model));
    b.n_rot_ = h.n_rot;
    b.nope_dim_ = h.nope_dim;
    b.params_ = {.slot = static_cast<int>(layer),
                 .n_heads = static_cast<int>(h.n_heads),
                 .n_kv_heads = 1,
                 .k_dim = static_cast<int>(h.n_rot + h.kv_rank),
                 .v_dim = static_cast<int>(h.kv_rank),
                 .scale = h.scale,
                 .rope = &rope,
                 .values_in_keys = true};
    return b;
  }

  // Keys before queries: they are small, and x is gone while the queries are made (ops/order.h).
  Act run(Context& context, const Step& step, Act x) const {
    const int64_t rows = x.rows();
    Act key = latent_keys(context, x);
    Act query = latent_queries(context, std::move(x));
    Act mixed = attend(context, step, params_, query, key, key);  // [rows, heads, kv_rank]
    query.reset();
    key.reset();
    Act values = context.allocate(rows, params_.n_heads * v_->n_out);
    linear_heads(context, *v_, mixed, 0, values, 0);
    mixed.reset();
    return linear(context, *o_, values);
  }

 private:
  // [rows, rotated part | latent]
  Act latent_keys(Context& context, const Act& x) const {
    const int64_t kv_rank = params_.v_dim;
    Act kv = linear(context, *kv_a_, x);  // [rows, latent | rotated part]
    Act latent = take_columns(context, kv, 0, kv_rank);
    latent = kv_a_norm_.run(context, latent);
    Act key = context.allocate(x.rows(), params_.k_dim);
    copy_heads(context, 1, n_rot_, kv, kv_rank, key, 0);
    kv.reset();
    copy_heads(context, 1, kv_rank, latent, 0, key, n_rot_);
    return key;
  }

  // [rows, heads, rotated part | query times key matrix]
  Act latent_queries(Context& context, Act x) const {
    const int64_t heads = params_.n_heads;
    if (q_a_) {
      x = linear(context, *q_a_, x);
      x = q_a_norm_.run(context, x);
    }
    // Before q, which goes first: what is attended into will lie in its place.
    Act query = context.allocate(x.rows(), heads * params_.k_dim);
    const Act q = linear(context, *q_, x);  // [rows, heads, plain | rotated part]
    x.reset();
    copy_heads(context, heads, n_rot_, q, nope_dim_, query, 0);
    if (k_rows_) {
      linear_heads_transposed(context, *k_rows_, q, 0, query, n_rot_);
    } else {
      linear_heads(context, *k_, q, 0, query, n_rot_);
    }
    return query;
  }

  Weight *q_a_ = nullptr, *q_ = nullptr, *kv_a_ = nullptr, *o_ = nullptr;
  Norm q_a_norm_, kv_a_norm_;
  Weight* k_rows_ = nullptr;  // [heads, nope_dim, kv_rank], this …
  Weight* k_ = nullptr;       // … or [heads, kv_rank, nope_dim]
  Weight* v_ = nullptr;       // [heads, v_dim, kv_rank]
  int64_t n_rot_ = 0, nope_dim_ = 0;
  AttendParams params_;
};

Result<LatentHyper> read_latent(const Hyper& hyper, const WeightCatalog& catalog) {
  LatentHyper h{};
  h.n_layers = TRY(hyper.count("block_count", 1, kMaxLayers));
  h.d_model = TRY(hyper.count("embedding_length", 1, kMaxWidth));
  h.n_heads = TRY(hyper.count("attention.head_count", 1, kMaxHeads));
  h.vocab_size = TRY(read_vocab_size(catalog));
  h.context = TRY(hyper.count("context_length", 1, kMaxContext));
  h.d_ff = TRY(hyper.count_or("feed_forward_length", 0, 0, kMaxWidth));
  h.q_rank = TRY(hyper.count_or("attention.q_lora_rank", 0, 0, kMaxWidth));
  h.kv_rank = TRY(hyper.count("attention.kv_lora_rank", 1, kMaxHeadDim));
  h.n_rot = TRY(hyper.count("rope.dimension_count", 2, kMaxHeadDim));
  // Files that describe attention over the latent keep the heads' own sizes in *_mla.
  const bool latent_sizes = hyper.metadata().contains(hyper.key("attention.key_length_mla"));
  const char* key = latent_sizes ? "attention.key_length_mla" : "attention.key_length";
  const char* value = latent_sizes ? "attention.value_length_mla" : "attention.value_length";
  const int64_t key_dim = TRY(hyper.count(key, h.n_rot + 1, kMaxHeadDim));
  h.nope_dim = key_dim - h.n_rot;
  h.v_dim = TRY(hyper.count(value, 1, kMaxHeadDim));
  h.n_dense = TRY(hyper.count_or("leading_dense_block_count", 0, 0, h.n_layers));
  h.epsilon = static_cast<float>(TRY(hyper.real("attention.layer_norm_rms_epsilon", 1e-30, 1.0)));
  // With YaRN, scores grow with the logarithm of the factor.
  const double factor = TRY(hyper.real_or("rope.scaling.factor", 1.0, 1.0, 1e6));
  const double log_multiplier =
      TRY(hyper.real_or("rope.scaling.yarn_log_multiplier", 0.0, 0.0, 1e3));
  const double magnitude = 1 + log_multiplier * std::log(factor);
  h.scale = static_cast<float>(magnitude * magnitude / std::sqrt(static_cast<double>(key_dim)));
  return h;
}

Result<RouterParams> read_router(const Hyper& hyper, const MixtureHyper& m) {
  RouterParams p{.n_experts = m.n_experts, .top_k = m.n_used};
  const int64_t gate = TRY(hyper.count_or("expert_gating_func", 1, 1, 2));
  p.gate = gate == 2 ? RouterParams::Gate::kSigmoid : RouterParams::Gate::kSoftmax;
  p.normalise = TRY(hyper.metadata().bool_or(hyper.key("expert_weights_norm"), false));
  p.scale = static_cast<float>(TRY(hyper.real_or("expert_weights_scale", 1.0, 1e-6, 1e6)));
  p.n_groups = TRY(hyper.count_or("expert_group_count", 1, 1, m.n_experts));
  p.n_groups_used = TRY(hyper.count_or("expert_group_used_count", p.n_groups, 1, p.n_groups));
  if (m.n_experts % p.n_groups != 0 || m.n_used > m.n_experts / p.n_groups * p.n_groups_used)
    return error(Code::kCorrupt,
                 "{} experts in {} groups, {} of them used, cannot give {} experts a row",
                 m.n_experts, p.n_groups, p.n_groups_used, m.n_used);
  return p;
}

class DeepSeek2 : public Model {
 public:
  static Result<std::unique_ptr<Model>> create(const Metadata& metadata, WeightCatalog& catalog) {
    auto model = std::make_unique<DeepSeek2>();
    const Hyper hyper(metadata, "deepseek2");
    const LatentHyper h = TRY(read_latent(hyper, catalog));
    model->rope_scheme_ = TRY(read_rope(hyper, catalog, h.n_rot, true, h.context));
    model->set_context(h.context);
    const MixtureHyper m = TRY(read_mixture(hyper, h.d_ff));
    RouterParams router;
    int64_t shared_ff = 0;
    if (m.n_experts > 0) {
      router = TRY(read_router(hyper, m));
      shared_ff = m.expert_ff * TRY(hyper.count_or("expert_shared_count", 0, 0, kMaxExperts));
    }
    const std::string given_name = TRY(metadata.string_or("general.name", ""));
    model->info_ = {.architecture = "deepseek2",
                    .name = given_name,
                    .n_layers = h.n_layers,
                    .d_model = h.d_model,
                    .vocab_size = h.vocab_size,
                    .trained_context = h.context};
    const auto norm = [&](const std::string& name) {
      return Norm::declare(catalog, name, h.d_model, NormKind::kRms, h.epsilon);
    };
    model->embedding_ = TRY(catalog.matrix("token_embd.weight", h.d_model, h.vocab_size));
    for (int64_t i = 0; i < h.n_layers; ++i) {
      Layer layer;
      layer.attention_norm = TRY(norm(layer_name(i, "attn_norm")));
      layer.attention = TRY(LatentAttention::declare(catalog, i, h, model->rope_));
      layer.ffn_norm = TRY(norm(layer_name(i, "ffn_norm")));
      if (i < h.n_dense || m.n_experts == 0) {
        layer.dense =
            TRY(FeedForward::declare(catalog, i, h.d_model, h.d_ff, true, Activation::kSilu));
      } else {
        layer.mixture =
            TRY(MixtureBlock::declare(catalog, i, h.d_model, m.expert_ff, shared_ff, router));
      }
      model->layers_.push_back(std::move(layer));
      model->info_.slots.push_back(SlotSpec::paged_latent(static_cast<int>(h.n_rot + h.kv_rank),
                                                          static_cast<int>(h.kv_rank)));
    }
    model->norm_ = TRY(norm("output_norm"));
    model->head_ = TRY(declare_head(catalog, h.d_model, h.vocab_size));
    return std::unique_ptr<Model>(std::move(model));
  }

  void set_context(int64_t tokens) override {
    rope_ = rope_scheme_.at(tokens);
    rope_.magnitude = 1;  // it is in the score scale
  }

  Act forward(Context& context, const Step& step) const override {
    Act x = embed(context, *embedding_, step.tokens);
    for (const Layer& layer : layers_) {
      add_in_place(context, x,
                   layer.attention.run(context, step, layer.attention_norm.run(context, x)));
      if (layer.dense) {
        add_feed_forward(context, layer.ffn_norm, *layer.dense, nullptr, x);
      } else {
        add_in_place(context, x, layer.mixture->run(context, layer.ffn_norm.run(context, x)));
      }
    }
    return output(context, step, norm_, *head_, std::move(x));
  }

 private:
  struct Layer {
    Norm attention_norm, ffn_norm;
    LatentAttention attention;
    std::optional<FeedForward> dense;
    std::optional<MixtureBlock> mixture;
  };
  RopeScheme rope_scheme_;
  Rope rope_;
  Weight *embedding_ = nullptr, *head_ = nullptr;
  std::vector<Layer> layers_;
  Norm norm_;
};

}  // namespace

extern const Architecture architecture_deepseek2;
const Architecture architecture_deepseek2{"deepseek2", DeepSeek2::create};

}  // namespace venturi
