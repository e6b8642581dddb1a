// SmallThinker (arXiv 2507.20984): mixtures whose router sees the stream as it enters the layer, so
// that experts are known, and can be read, before the attention; experts with a ReLU gate. With a
// sliding window (21 B), every fourth layer, the first of them, sees everything and does not rotate;
// without one (4 B), all layers rotate and see everything.
#include "models/decoder.h"

namespace venturi {

namespace {

constexpr int64_t kGlobalEvery = 4;

class SmallThinker : public Decoder {
 public:
  static Result<std::unique_ptr<Model>> create(const Metadata& metadata, WeightCatalog& catalog) {
    auto model = std::make_unique<SmallThinker>();
    const Hyper hyper(metadata, "smallthinker");
    const TransformerHyper h = TRY(read_transformer(hyper, catalog, NormKind::kRms));
    const MixtureHyper m = TRY(read_mixture(hyper, h.d_ff));
    if (m.n_experts == 0)
      return error(Code::kCorrupt, "{} is missing or 0", hyper.key("expert_count"));
    const int64_t gate = TRY(hyper.count_or("expert_gating_func", 2, 1, 2));
    const int64_t window = TRY(hyper.count_or("attention.sliding_window", 0, 0, kMaxContext));
    const bool sigmoid = gate == 2;
    TRY(model->declare(hyper, catalog, h,
                       {.activation = Activation::kRelu,
                        .router = {.gate = sigmoid ? RouterParams::Gate::kSigmoid
                                                   : RouterParams::Gate::kSoftmaxChosen,
                                   .n_experts = m.n_experts,
                                   .top_k = m.n_used,
                                   .early = true,
                                   .normalise = sigmoid},
                        .expert_ff = m.expert_ff}));
    for (size_t i = 0; window > 0 && i < model->layers_.size(); ++i) {
      const bool global = i % kGlobalEvery == 0;
      model->set_window(i, global ? 0 : window);
      if (global) model->layers_[i].attention.params.rope = nullptr;
    }
    return std::unique_ptr<Model>(std::move(model));
  }
};

}  // namespace

extern const Architecture architecture_smallthinker;
const Architecture architecture_smallthinker{"smallthinker", SmallThinker::create};

}  // namespace venturi
