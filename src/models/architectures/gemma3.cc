// Gemma 3, the text part (arXiv 2503.19786): gemma2 with norms of queries and keys in place of the
// caps. Five layers see a sliding window, the sixth everything; local layers rotate with a base of
// their own and no scaling.
#include <cmath>

#include "models/decoder.h"

namespace venturi {

namespace {

constexpr size_t kGlobalEvery = 6;

class Gemma3 : public Decoder {
 public:
  static Result<std::unique_ptr<Model>> create(const Metadata& metadata, WeightCatalog& catalog) {
    auto model = std::make_unique<Gemma3>();
    const Hyper hyper(metadata, "gemma3");
    const TransformerHyper h = TRY(read_transformer(hyper, catalog, NormKind::kRms));
    const int64_t window = TRY(hyper.count("attention.sliding_window", 1, kMaxContext));
    const double local_base = TRY(hyper.real_or("rope.freq_base_swa", 10000, 1, 1e12));
    const double final_cap = TRY(hyper.real_or("final_logit_softcapping", 0, 0, 1e6));
    // Like gemma2's, for the 27 B model (62 layers).
    const double scalar = h.n_layers == 62
                              ? static_cast<double>(h.d_model) / static_cast<double>(h.n_heads)
                              : static_cast<double>(h.head_dim);
    const double scale = TRY(hyper.real_or("attention.scale", 1 / std::sqrt(scalar), 1e-6, 1e6));
    TRY(model->declare(
        hyper, catalog, h,
        {.needs = {.head_norms = true}, .activation = Activation::kGelu, .post_norms = true}));
    model->local_rope_.frequencies = Rope::plain(model->rope_.dims(), local_base);
    model->embedding_scale_ = std::sqrt(static_cast<float>(h.d_model));
    model->final_soft_cap_ = static_cast<float>(final_cap);
    for (size_t i = 0; i < model->layers_.size(); ++i) {
      AttendParams& params = model->layers_[i].attention.params;
      const bool global = i % kGlobalEvery == kGlobalEvery - 1;
      params.scale = static_cast<float>(scale);
      model->set_window(i, global ? 0 : window);
      params.rope = global ? &model->rope_ : &model->local_rope_;
    }
    return std::unique_ptr<Model>(std::move(model));
  }

 private:
  Rope local_rope_;
};

}  // namespace

extern const Architecture architecture_gemma3;
const Architecture architecture_gemma3{"gemma3", Gemma3::create};

}  // namespace venturi
