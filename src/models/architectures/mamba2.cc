// Mamba 2 (arXiv 2405.21060): no attention. A layer's memory is the last few inputs of a causal
// convolution and one matrix per head, whatever the length of the sequence.
#include "models/blocks.h"
#include "ops/scan.h"

namespace venturi {

namespace {

class Mamba2 : public Model {
 public:
  static Result<std::unique_ptr<Model>> create(const Metadata& metadata, WeightCatalog& catalog) {
    auto model = std::make_unique<Mamba2>();
    const Hyper hyper(metadata, "mamba2");
    const int64_t n_layers = TRY(hyper.count("block_count", 1, kMaxLayers));
    const int64_t d_model = TRY(hyper.count("embedding_length", 1, kMaxWidth));
    const int64_t taps = TRY(hyper.count("ssm.conv_kernel", 1, 64));
    const int64_t d_inner = TRY(hyper.count("ssm.inner_size", 1, kMaxWidth));
    const int64_t d_state = TRY(hyper.count("ssm.state_size", 1, kMaxHeadDim));
    const int64_t n_heads = TRY(hyper.count("ssm.time_step_rank", 1, kMaxHeads));
    const int64_t n_groups = TRY(hyper.count("ssm.group_count", 1, kMaxHeads));
    if (d_inner % n_heads != 0 || n_heads % n_groups != 0)
      return error(Code::kCorrupt, "{} is {}, {} is {}, {} is {}; each must divide the one before",
                   hyper.key("ssm.inner_size"), d_inner, hyper.key("ssm.time_step_rank"), n_heads,
                   hyper.key("ssm.group_count"), n_groups);
    const auto epsilon =
        static_cast<float>(TRY(hyper.real("attention.layer_norm_rms_epsilon", 1e-30, 1.0)));
    const int64_t conv_dim = d_inner + 2 * n_groups * d_state;
    const int64_t vocab_size = TRY(read_vocab_size(catalog));
    const int64_t context = TRY(hyper.count("context_length", 1, kMaxContext));
    const std::string given_name = TRY(metadata.string_or("general.name", ""));
    model->info_ = {.architecture = "mamba2",
                    .name = given_name,
                    .n_layers = n_layers,
                    .d_model = d_model,
                    .vocab_size = vocab_size,
                    .trained_context = context};
    model->d_inner_ = d_inner;
    model->embedding_ = TRY(catalog.matrix("token_embd.weight", d_model, vocab_size));
    for (int64_t i = 0; i < n_layers; ++i) {
      const auto name = [&](const char* suffix) { return layer_name(i, suffix); };
      const int slot = static_cast<int>(i);
      Layer layer;
      layer.norm = TRY(Norm::declare(catalog, name("attn_norm"), d_model, NormKind::kRms, epsilon));
      layer.in = TRY(catalog.matrix(name("ssm_in.weight"), d_model, d_inner + conv_dim + n_heads));
      layer.conv = {.slot = slot,
                    .taps = taps,
                    .kernel = nullptr,
                    .bias = nullptr};
      layer.conv.kernel = TRY(catalog.vector(name("ssm_conv1d.weight"), conv_dim * taps));
      layer.conv.bias = TRY(catalog.vector(name("ssm_conv1d.bias"), conv_dim));
      layer.scan = {.slot = slot,
                    .state_begin = (taps - 1) * conv_dim,
                    .n_heads = n_heads,
                    .head_dim = d_inner / n_heads,
                    .d_state = d_state,
                    .n_groups = n_groups,
                    .a = nullptr,
                    .dt_bias = nullptr,
                    .skip = nullptr};
      layer.scan.a = TRY(catalog.vector(name("ssm_a"), n_heads));
      layer.scan.dt_bias = TRY(catalog.vector(name("ssm_dt.bias"), n_heads));
      layer.scan.skip = TRY(catalog.vector(name("ssm_d"), n_heads));
      layer.gated_norm = TRY(catalog.vector(name("ssm_norm.weight"), d_inner));
      layer.out = TRY(catalog.matrix(name("ssm_out.weight"), d_inner, d_model));
      model->layers_.push_back(layer);
      model->info_.slots.push_back(SlotSpec::recurrent((taps - 1) * conv_dim + d_inner * d_state));
    }
    model->norm_ = TRY(Norm::declare(catalog, "output_norm", d_model, NormKind::kRms, epsilon));
    model->head_ = TRY(declare_head(catalog, d_model, vocab_size));
    return std::unique_ptr<Model>(std::move(model));
  }

  Act forward(Context& context, const Step& step) const override {
    Act x = embed(context, *embedding_, step.tokens);
    for (const Layer& layer : layers_)
      add_in_place(context, x, mix(context, step, layer, layer.norm.run(context, x)));
    return output(context, step, norm_, *head_, std::move(x));
  }

 private:
  struct Layer {
    Norm norm;
    Weight *in = nullptr, *out = nullptr;
    ConvParams conv;
    ScanParams scan;
    VectorWeight* gated_norm = nullptr;  // [n_groups, d_inner / n_groups]
  };

  Act mix(Context& context, const Step& step, const Layer& layer, Act x) const {
    Act fused = linear(context, *layer.in, x);  // [rows, z | x B C | dt]
    x.reset();
    const int64_t n_heads = layer.scan.n_heads;
    const int64_t conv_dim = layer.in->n_out - d_inner_ - n_heads;
    Act z = take_columns(context, fused, 0, d_inner_);
    Act xbc = take_columns(context, fused, d_inner_, conv_dim);
    Act dt = take_columns(context, fused, d_inner_ + conv_dim, n_heads);
    fused.reset();
    causal_conv_silu(context, step, layer.conv, xbc);
    Act y = ssd_scan(context, step, layer.scan, xbc, dt);
    xbc.reset();
    dt.reset();
    gated_in_place(context, Activation::kSilu, z, &y);
    y.reset();
    rms_norm_heads(context, z, layer.scan.n_groups, *layer.gated_norm, layer.norm.epsilon);
    return linear(context, *layer.out, z);
  }

  int64_t d_inner_ = 0;
  Weight *embedding_ = nullptr, *head_ = nullptr;
  std::vector<Layer> layers_;
  Norm norm_;
};

}  // namespace

extern const Architecture architecture_mamba2;
const Architecture architecture_mamba2{"mamba2", Mamba2::create};

}  // namespace venturi
