// Mamba 2: recurrent state, no attention.
#include <cmath>

#include "formats/hf_config_write.h"

namespace venturi {

namespace {

constexpr std::string_view kClasses[] = {"Mamba2ForCausalLM"};

constexpr HfRule kRules[] = {
    {"backbone.embeddings.weight", "token_embd.weight"},
    {"backbone.embedding.weight", "token_embd.weight"},
    {"backbone.norm_f.weight", "output_norm.weight"},
    {"lm_head.weight", "output.weight"},
    {"backbone.layers.{}.norm.weight", "blk.{}.attn_norm.weight"},
    {"backbone.layers.{}.mixer.in_proj.*", "blk.{}.ssm_in.*"},
    {"backbone.layers.{}.mixer.conv1d.*", "blk.{}.ssm_conv1d.*"},
    {"backbone.layers.{}.mixer.dt_bias", "blk.{}.ssm_dt.bias"},
    {"backbone.layers.{}.mixer.A_log", "blk.{}.ssm_a", HfTransform::kNegativeExpColumn},
    {"backbone.layers.{}.mixer.D", "blk.{}.ssm_d", HfTransform::kColumn},
    {"backbone.layers.{}.mixer.norm.weight", "blk.{}.ssm_norm.weight"},
    {"backbone.layers.{}.mixer.out_proj.*", "blk.{}.ssm_out.*"},
};

constexpr uint64_t kAnyContext = 1 << 20;  // the state has no length; something must be written

Status set_metadata(const HfConfig& config, Metadata& metadata) {
  const uint64_t width = TRY(config.need_uint({"hidden_size", "d_model"}));
  const double expand = TRY(config.number({"expand"})).value_or(2);
  const auto given = TRY(config.uint({"intermediate_size", "d_inner"}));
  if (width > INT32_MAX || expand <= 0 || expand > 1024)
    return error(Code::kCorrupt, "{}: hidden_size {} and expand {} are out of range", config.path(),
                 width, expand);
  const uint64_t inner = given.value_or(static_cast<uint64_t>(expand * static_cast<double>(width)));
  const uint64_t head_dim = TRY(config.uint({"head_dim"})).value_or(64);
  if (head_dim == 0 || inner % head_dim != 0)
    return error(Code::kCorrupt, "{}: head_dim {} does not divide the inner size {}", config.path(),
                 head_dim, inner);
  const double epsilon = TRY(config.number({"layer_norm_epsilon", "rms_norm_eps"})).value_or(1e-5);

  // What a transformer's fields of the same names would have meant.
  for (const char* key : {"mamba2.attention.key_length", "mamba2.attention.value_length",
                          "mamba2.attention.layer_norm_epsilon"})
    metadata.erase(key);
  metadata.set_uint("mamba2.context_length", kAnyContext);
  metadata.set_uint("mamba2.feed_forward_length", 0);
  metadata.set_uint("mamba2.attention.head_count", 0);
  metadata.set_uint("mamba2.ssm.conv_kernel",
                    TRY(config.uint({"conv_kernel", "d_conv"})).value_or(4));
  metadata.set_uint("mamba2.ssm.inner_size", inner);
  metadata.set_uint("mamba2.ssm.state_size",
                    TRY(config.uint({"state_size", "d_state"})).value_or(128));
  metadata.set_uint("mamba2.ssm.time_step_rank", inner / head_dim);
  metadata.set_uint("mamba2.ssm.group_count", TRY(config.uint({"n_groups"})).value_or(1));
  metadata.set_float("mamba2.attention.layer_norm_rms_epsilon", static_cast<float>(epsilon));
  return {};
}

// The convolution's middle dimension of 1 goes; the norm is one row a group.
Status adjust(const Metadata& metadata, TensorInfo& tensor) {
  if (tensor.name.ends_with("ssm_conv1d.weight") && tensor.dims.size() == 3 && tensor.dims[1] == 1)
    tensor.dims.erase(tensor.dims.begin() + 1);
  if (!tensor.name.ends_with("ssm_norm.weight") || tensor.dims.size() != 1) return {};
  const auto groups = static_cast<int64_t>(TRY(metadata.get_uint("mamba2.ssm.group_count")));
  if (groups <= 0 || tensor.dims[0] % groups != 0)
    return error(Code::kCorrupt, "tensor '{}': n_groups {} does not divide its {} values",
                 tensor.name, groups, tensor.dims[0]);
  tensor.dims = {tensor.dims[0] / groups, groups};
  return {};
}

Status set_config(const ModelFile& model, nlohmann::json& config) {
  const Metadata& metadata = model.metadata;
  const uint64_t width = TRY(metadata.get_uint("mamba2.embedding_length"));
  const uint64_t inner = TRY(metadata.get_uint("mamba2.ssm.inner_size"));
  const uint64_t heads = TRY(metadata.get_uint("mamba2.ssm.time_step_rank"));
  if (width == 0 || heads == 0 || inner % heads != 0)
    return error(Code::kCorrupt, "{}: {} heads do not divide the inner size {}", model.path, heads,
                 inner);
  for (const char* field : {"intermediate_size", "num_attention_heads", "max_position_embeddings"})
    config.erase(field);
  rename_field(config, "rms_norm_eps", "layer_norm_epsilon");
  // The inner size is a product that is cut to an integer.
  double expand = static_cast<double>(inner) / static_cast<double>(width);
  if (static_cast<uint64_t>(expand * static_cast<double>(width)) != inner)
    expand = std::nextafter(expand, HUGE_VAL);
  config["expand"] = expand;
  config["num_heads"] = heads;
  config["head_dim"] = inner / heads;
  config["use_conv_bias"] = model.find("blk.0.ssm_conv1d.bias") != nullptr;
  config["use_bias"] = model.find("blk.0.ssm_in.bias") != nullptr;
  TRY(put_uint(model, "ssm.conv_kernel", "conv_kernel", config));
  TRY(put_uint(model, "ssm.state_size", "state_size", config));
  return put_uint(model, "ssm.group_count", "n_groups", config);
}

void restore(std::string_view name, std::vector<int64_t>& shape) {
  if (name.ends_with("ssm_conv1d.weight") && shape.size() == 2) shape.insert(shape.begin() + 1, 1);
  if (name.ends_with("ssm_norm.weight") && shape.size() == 2) shape = {shape[0] * shape[1]};
}

}  // namespace

extern const HfArchitecture hf_mamba2;
const HfArchitecture hf_mamba2{.name = "mamba2",
                               .classes = kClasses,
                               .prefixes = {},
                               .rules = kRules,
                               .set_metadata = set_metadata,
                               .adjust = adjust,
                               .model_type = "mamba2",
                               .set_config = set_config,
                               .restore = restore};

}  // namespace venturi
