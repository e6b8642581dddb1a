// Qwen 2 mixtures (arXiv 2407.10671): the softmax over all experts is not renormalised over the
// chosen, and a shared expert has a sigmoid gate of its own.
#include "models/decoder.h"

namespace venturi {

namespace {

class Qwen2Moe : public Decoder {
 public:
  static Result<std::unique_ptr<Model>> create(const Metadata& metadata, WeightCatalog& catalog) {
    auto model = std::make_unique<Qwen2Moe>();
    const Hyper hyper(metadata, "qwen2moe");
    const TransformerHyper h = TRY(read_transformer(hyper, catalog, NormKind::kRms));
    const MixtureHyper m = TRY(read_mixture(hyper, h.d_ff));
    if (m.n_experts == 0)
      return error(Code::kCorrupt, "{} is missing or 0", hyper.key("expert_count"));
    const int64_t shared_ff =
        TRY(hyper.count_or("expert_shared_feed_forward_length", h.d_ff, 1, kMaxWidth));
    TRY(model->declare(hyper, catalog, h,
                       {.needs = {.qkv_bias = true},
                        .router = {.n_experts = m.n_experts, .top_k = m.n_used},
                        .expert_ff = m.expert_ff,
                        .shared_ff = shared_ff}));
    for (size_t i = 0; i < model->layers_.size(); ++i)
      model->layers_[i].mixture->shared_gate = TRY(catalog.matrix(
          layer_name(static_cast<int64_t>(i), "ffn_gate_inp_shexp.weight"), h.d_model, 1));
    return std::unique_ptr<Model>(std::move(model));
  }
};

}  // namespace

extern const Architecture architecture_qwen2moe;
const Architecture architecture_qwen2moe{"qwen2moe", Qwen2Moe::create};

}  // namespace venturi
