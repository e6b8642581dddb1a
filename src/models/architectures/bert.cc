// BERT (arXiv 1810.04805): an encoder. Every token sees every other, norms follow each block,
// positions are learned, GELU is exact; one pooled vector per span comes out, not scaled to
// length 1.
#include "models/blocks.h"
#include "ops/pool.h"

namespace venturi {

namespace {

class Bert : public Model {
 public:
  static Result<std::unique_ptr<Model>> create(const Metadata& metadata, WeightCatalog& catalog) {
    auto model = std::make_unique<Bert>();
    const Hyper hyper(metadata, "bert");
    const TransformerHyper h = TRY(read_transformer(hyper, catalog, NormKind::kLayer));
    if (TRY(metadata.bool_or(hyper.key("attention.causal"), false)))
      return error(Code::kUnsupported, "{} is true; a bert is not causal",
                   hyper.key("attention.causal"));
    // The file's numbers: 0 none, 1 mean, 2 first token, 3 last.
    const int64_t pooling = TRY(hyper.count_or("pooling_type", 1, 0, 3));
    if (pooling == 0)
      return error(Code::kUnsupported,
                   "{} is 0 (none); known are 1 (mean), 2 (first token), 3 (last token)",
                   hyper.key("pooling_type"));
    model->pooling_ = pooling == 1   ? Pooling::kMean
                      : pooling == 2 ? Pooling::kFirst
                                     : Pooling::kLast;
    const std::string given_name = TRY(metadata.string_or("general.name", ""));
    model->info_ = {.architecture = "bert",
                    .name = given_name,
                    .n_layers = h.n_layers,
                    .d_model = h.d_model,
                    .vocab_size = h.vocab_size,
                    .trained_context = h.context,
                    .max_context = h.context,
                    .embeds = true,
                    .whole_spans = true};
    const auto norm = [&](const std::string& name) {
      return Norm::declare(catalog, name, h.d_model, NormKind::kLayer, h.norm_epsilon);
    };
    model->embedding_ = TRY(catalog.matrix("token_embd.weight", h.d_model, h.vocab_size));
    model->positions_ = TRY(catalog.matrix("position_embd.weight", h.d_model, h.context));
    const TensorInfo* types = catalog.file().find("token_types.weight");
    if (!types) return error(Code::kNotFound, "the tensor token_types.weight is missing");
    model->types_ = TRY(catalog.matrix("token_types.weight", h.d_model, types->n_rows()));
    model->embedding_norm_ = TRY(norm("token_embd_norm"));
    // Keys and values are wanted only while their layer attends, so all layers share one slot.
    model->info_.slots.push_back(SlotSpec::paged(static_cast<int>(h.n_kv_heads),
                                                 static_cast<int>(h.head_dim),
                                                 static_cast<int>(h.v_head_dim)));
    for (int64_t i = 0; i < h.n_layers; ++i) {
      Layer layer;
      layer.attention = TRY(AttentionBlock::declare(catalog, i, h, {.qkv_bias = true}));
      layer.attention.params.slot = 0;
      layer.attention.params.full = true;
      layer.attention_norm = TRY(norm(layer_name(i, "attn_output_norm")));
      layer.ffn =
          TRY(FeedForward::declare(catalog, i, h.d_model, h.d_ff, false, Activation::kGeluErf));
      layer.ffn_norm = TRY(norm(layer_name(i, "layer_output_norm")));
      model->layers_.push_back(std::move(layer));
    }
    return std::unique_ptr<Model>(std::move(model));
  }

  Act forward(Context& context, const Step& step) const override {
    Act x = embed(context, *embedding_, step.tokens);
    add_in_place(context, x, embed(context, *positions_, row_positions(step)));
    const std::vector<int32_t> first_type(static_cast<size_t>(step.n_rows()), 0);
    add_in_place(context, x, embed(context, *types_, first_type));
    x = embedding_norm_.run(context, x);
    for (const Layer& layer : layers_) {
      add_in_place(context, x, layer.attention.run(context, step, x.view(0, x.rows())));
      x = layer.attention_norm.run(context, x);
      add_in_place(context, x, layer.ffn.run(context, x.view(0, x.rows())));
      x = layer.ffn_norm.run(context, x);
    }
    return pool_spans(context, step, pooling_, x);
  }

 private:
  struct Layer {
    AttentionBlock attention;
    FeedForward ffn;
    Norm attention_norm, ffn_norm;
  };
  Pooling pooling_ = Pooling::kMean;
  Weight *embedding_ = nullptr, *positions_ = nullptr, *types_ = nullptr;
  Norm embedding_norm_;
  std::vector<Layer> layers_;
};

}  // namespace

extern const Architecture architecture_bert;
const Architecture architecture_bert{"bert", Bert::create};

}  // namespace venturi
