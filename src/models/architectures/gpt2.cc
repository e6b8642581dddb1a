// GPT-2: LayerNorm with bias, learned positions, one fused matrix for queries, keys and values,
// GELU in its tanh form.
#include "models/blocks.h"

namespace venturi {

namespace {

class Gpt2 : public Model {
 public:
  static Result<std::unique_ptr<Model>> create(const Metadata& metadata, WeightCatalog& catalog) {
    auto model = std::make_unique<Gpt2>();
    const Hyper hyper(metadata, "gpt2");
    const TransformerHyper h = TRY(read_transformer(hyper, catalog, NormKind::kLayer));
    const std::string given_name = TRY(metadata.string_or("general.name", ""));
    model->info_ = {.architecture = "gpt2",
                    .name = given_name,
                    .n_layers = h.n_layers,
                    .d_model = h.d_model,
                    .vocab_size = h.vocab_size,
                    .trained_context = h.context,
                    .max_context = h.context};
    const auto norm = [&](const std::string& name) {
      return Norm::declare(catalog, name, h.d_model, NormKind::kLayer, h.norm_epsilon);
    };
    model->embedding_ = TRY(catalog.matrix("token_embd.weight", h.d_model, h.vocab_size));
    model->positions_ = TRY(catalog.matrix("position_embd.weight", h.d_model, h.context));
    for (int64_t i = 0; i < h.n_layers; ++i) {
      Layer layer;
      layer.attention_norm = TRY(norm(layer_name(i, "attn_norm")));
      layer.attention = TRY(AttentionBlock::declare(catalog, i, h, {.qkv_bias = true}));
      layer.ffn_norm = TRY(norm(layer_name(i, "ffn_norm")));
      layer.ffn =
          TRY(FeedForward::declare(catalog, i, h.d_model, h.d_ff, false,
                                   TRY(read_activation(hyper, Activation::kGelu))));
      model->layers_.push_back(std::move(layer));
      model->info_.slots.push_back(SlotSpec::paged(static_cast<int>(h.n_kv_heads),
                                                   static_cast<int>(h.head_dim),
                                                   static_cast<int>(h.v_head_dim)));
    }
    model->norm_ = TRY(norm("output_norm"));
    model->head_ = TRY(declare_head(catalog, h.d_model, h.vocab_size));
    return std::unique_ptr<Model>(std::move(model));
  }

  Act forward(Context& context, const Step& step) const override {
    Act x = embed(context, *embedding_, step.tokens);
    add_in_place(context, x, embed(context, *positions_, row_positions(step)));
    for (const Layer& layer : layers_) {
      add_in_place(context, x,
                   layer.attention.run(context, step, layer.attention_norm.run(context, x)));
      add_feed_forward(context, layer.ffn_norm, layer.ffn, nullptr, x);
    }
    return output(context, step, norm_, *head_, std::move(x));
  }

 private:
  struct Layer {
    Norm attention_norm, ffn_norm;
    AttentionBlock attention;
    FeedForward ffn;
  };
  Weight *embedding_ = nullptr, *positions_ = nullptr, *head_ = nullptr;
  std::vector<Layer> layers_;
  Norm norm_;
};

}  // namespace

extern const Architecture architecture_gpt2;
const Architecture architecture_gpt2{"gpt2", Gpt2::create};

}  // namespace venturi
