// Llama 1 to 3.x, and Mistral, which GGUF files under the same name (with a sliding window).
#include "models/blocks.h"

namespace venturi {

namespace {

class Llama : public Model {
 public:
  static Result<std::unique_ptr<Model>> create(const Metadata& metadata, WeightCatalog& catalog) {
    auto model = std::make_unique<Llama>();
    const Hyper hyper(metadata, "llama");
    const TransformerHyper h = TRY(read_transformer(hyper, catalog, NormKind::kRms));
    model->rope_ = TRY(read_rope(hyper, catalog, h.head_dim, true, h.context));
    model->epsilon_ = h.norm_epsilon;
    model->info_ = {.architecture = "llama", .name = TRY(metadata.string_or("general.name", "")),
                    .n_layers = h.n_layers, .d_model = h.d_model, .vocab_size = h.vocab_size,
                    .trained_context = h.context};
    const int64_t window = TRY(hyper.count_or("attention.sliding_window", 0, 0, int64_t{1} << 32));
    model->embedding_ = TRY(catalog.matrix("token_embd.weight", h.d_model, h.vocab_size));
    for (int64_t i = 0; i < h.n_layers; ++i) {
      Layer layer;
      layer.attention_norm = TRY(catalog.vector(layer_name(i, "attn_norm.weight"), h.d_model));
      layer.attention = TRY(AttentionBlock::declare(catalog, i, h));
      layer.attention.params.rope = &model->rope_;
      layer.attention.params.window = window;
      layer.ffn_norm = TRY(catalog.vector(layer_name(i, "ffn_norm.weight"), h.d_model));
      layer.ffn = TRY(GatedFeedForward::declare(catalog, i, h.d_model, h.d_ff));
      model->layers_.push_back(std::move(layer));
      model->info_.slots.push_back(SlotSpec::paged(static_cast<int>(h.n_kv_heads), static_cast<int>(h.head_dim),
                                                   static_cast<int>(h.v_head_dim)));
    }
    model->norm_ = TRY(catalog.vector("output_norm.weight", h.d_model));
    model->head_ = TRY(declare_head(catalog, h.d_model, h.vocab_size));
    return std::unique_ptr<Model>(std::move(model));
  }

  Act forward(Context& context, const Step& step) const override {
    Act x = embed(context, *embedding_, step.tokens);
    for (const Layer& layer : layers_) {
      add_in_place(context, x, layer.attention.run(context, step, rms_norm(context, x, *layer.attention_norm, epsilon_)));
      add_in_place(context, x, layer.ffn.run(context, rms_norm(context, x, *layer.ffn_norm, epsilon_)));
    }
    x = take_rows(context, x, step.output_rows);
    return linear(context, *head_, rms_norm(context, x, *norm_, epsilon_));
  }

 private:
  struct Layer {
    VectorWeight *attention_norm, *ffn_norm;
    AttentionBlock attention;
    GatedFeedForward ffn;
  };
  Rope rope_;
  float epsilon_ = 0;
  Weight *embedding_ = nullptr, *head_ = nullptr;
  std::vector<Layer> layers_;
  VectorWeight* norm_ = nullptr;
};

}  // namespace

extern const Architecture architecture_llama;
const Architecture architecture_llama{"llama", Llama::create};

}  // namespace venturi
