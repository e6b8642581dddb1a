// Qwen 2 and 2.5 (arXiv 2407.10671): llama with biases on queries, keys and values, and rotary
// pairs in halves.
#include "models/decoder.h"

namespace venturi {

namespace {

class Qwen2 : public Decoder {
 public:
  static Result<std::unique_ptr<Model>> create(const Metadata& metadata, WeightCatalog& catalog) {
    auto model = std::make_unique<Qwen2>();
    const Hyper hyper(metadata, "qwen2");
    const TransformerHyper h = TRY(read_transformer(hyper, catalog, NormKind::kRms));
    TRY(model->declare(hyper, catalog, h, {.needs = {.qkv_bias = true}}));
    return std::unique_ptr<Model>(std::move(model));
  }
};

}  // namespace

extern const Architecture architecture_qwen2;
const Architecture architecture_qwen2{"qwen2", Qwen2::create};

}  // namespace venturi
