// Gemma 2 (arXiv 2408.00118): norms before and after each block, capped scores and logits, a
// sliding window in the even layers, GELU gates, embeddings times sqrt(d_model). Norm weights are
// stored with the published 1 + added.
#include <cmath>

#include "models/decoder.h"

namespace venturi {

namespace {

class Gemma2 : public Decoder {
 public:
  static Result<std::unique_ptr<Model>> create(const Metadata& metadata, WeightCatalog& catalog) {
    auto model = std::make_unique<Gemma2>();
    const Hyper hyper(metadata, "gemma2");
    const TransformerHyper h = TRY(read_transformer(hyper, catalog, NormKind::kRms));
    const double score_cap = TRY(hyper.real_or("attn_logit_softcapping", 50, 1e-3, 1e6));
    const double final_cap = TRY(hyper.real_or("final_logit_softcapping", 30, 1e-3, 1e6));
    const int64_t window = TRY(hyper.count_or("attention.sliding_window", 4096, 1, kMaxContext));
    // The published query_pre_attn_scalar has no key in most files: it is the head's size, but in
    // the 27 B model (46 layers) d_model / n_heads.
    const double scalar = h.n_layers == 46
                              ? static_cast<double>(h.d_model) / static_cast<double>(h.n_heads)
                              : static_cast<double>(h.head_dim);
    const double scale = TRY(hyper.real_or("attention.scale", 1 / std::sqrt(scalar), 1e-6, 1e6));
    TRY(model->declare(hyper, catalog, h, {.activation = Activation::kGelu, .post_norms = true}));
    model->embedding_scale_ = std::sqrt(static_cast<float>(h.d_model));
    model->final_soft_cap_ = static_cast<float>(final_cap);
    for (size_t i = 0; i < model->layers_.size(); ++i) {
      AttendParams& params = model->layers_[i].attention.params;
      params.scale = static_cast<float>(scale);
      params.soft_cap = static_cast<float>(score_cap);
      model->set_window(i, i % 2 == 0 ? window : 0);
    }
    return std::unique_ptr<Model>(std::move(model));
  }
};

}  // namespace

extern const Architecture architecture_gemma2;
const Architecture architecture_gemma2{"gemma2", Gemma2::create};

}  // namespace venturi
