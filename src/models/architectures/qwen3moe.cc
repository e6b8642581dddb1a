// Qwen 3 mixtures (arXiv 2505.09388): qwen3's attention; the softmax over all experts is
// renormalised over the chosen.
#include "models/decoder.h"

namespace venturi {

namespace {

class Qwen3Moe : public Decoder {
 public:
  static Result<std::unique_ptr<Model>> create(const Metadata& metadata, WeightCatalog& catalog) {
    auto model = std::make_unique<Qwen3Moe>();
    const Hyper hyper(metadata, "qwen3moe");
    const TransformerHyper h = TRY(read_transformer(hyper, catalog, NormKind::kRms));
    const MixtureHyper m = TRY(read_mixture(hyper, h.d_ff));
    if (m.n_experts == 0)
      return error(Code::kCorrupt, "{} is missing or 0", hyper.key("expert_count"));
    TRY(model->declare(hyper, catalog, h,
                       {.needs = {.head_norms = true},
                        .router = {.n_experts = m.n_experts, .top_k = m.n_used, .normalise = true},
                        .expert_ff = m.expert_ff}));
    return std::unique_ptr<Model>(std::move(model));
  }
};

}  // namespace

extern const Architecture architecture_qwen3moe;
const Architecture architecture_qwen3moe{"qwen3moe", Qwen3Moe::create};

}  // namespace venturi
