// Qwen 3 (arXiv 2505.09388): no biases; queries and keys are RMS-normed per head before rotation.
#include "models/decoder.h"

namespace venturi {

namespace {

class Qwen3 : public Decoder {
 public:
  static Result<std::unique_ptr<Model>> create(const Metadata& metadata, WeightCatalog& catalog) {
    auto model = std::make_unique<Qwen3>();
    const Hyper hyper(metadata, "qwen3");
    const TransformerHyper h = TRY(read_transformer(hyper, catalog, NormKind::kRms));
    TRY(model->declare(hyper, catalog, h, {.needs = {.head_norms = true}}));
    return std::unique_ptr<Model>(std::move(model));
  }
};

}  // namespace

extern const Architecture architecture_qwen3;
const Architecture architecture_qwen3{"qwen3", Qwen3::create};

}  // namespace venturi
