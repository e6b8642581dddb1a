// Llama 1 to 3.x, and Mistral (a sliding window) and Mixtral (experts), which GGUF files under the
// same name.
#include "models/decoder.h"

namespace venturi {

namespace {

class Llama : public Decoder {
 public:
  static Result<std::unique_ptr<Model>> create(const Metadata& metadata, WeightCatalog& catalog) {
    auto model = std::make_unique<Llama>();
    const Hyper hyper(metadata, "llama");
    const TransformerHyper h = TRY(read_transformer(hyper, catalog, NormKind::kRms));
    const MixtureHyper m = TRY(read_mixture(hyper, h.d_ff));
    const int64_t window = TRY(hyper.count_or("attention.sliding_window", 0, 0, kMaxContext));
    const Activation activation = TRY(read_activation(hyper, Activation::kSilu));
    TRY(model->declare(hyper, catalog, h,
                       {.interleaved = true,
                        .activation = activation,
                        .router = {.gate = RouterParams::Gate::kSoftmaxChosen,
                                   .n_experts = m.n_experts,
                                   .top_k = m.n_used},
                        .expert_ff = m.expert_ff}));
    for (size_t i = 0; i < model->layers_.size(); ++i) model->set_window(i, window);
    return std::unique_ptr<Model>(std::move(model));
  }
};

}  // namespace

extern const Architecture architecture_llama;
const Architecture architecture_llama{"llama", Llama::create};

}  // namespace venturi
