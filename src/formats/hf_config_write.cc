#include "formats/hf_config_write.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace venturi {

namespace {

using nlohmann::json;

struct FieldName {
  const char *hf, *gguf;
};
constexpr FieldName kUints[] = {{"hidden_size", "embedding_length"},
                                {"intermediate_size", "feed_forward_length"},
                                {"num_hidden_layers", "block_count"},
                                {"num_attention_heads", "attention.head_count"},
                                {"max_position_embeddings", "context_length"}};
constexpr FieldName kNumbers[] = {{"rms_norm_eps", "attention.layer_norm_rms_epsilon"},
                                  {"rope_theta", "rope.freq_base"}};

// The context that a blended factor of dimension `i` tells: the inverse of llama3_rope_factors with
// 1 and 4 as the low and the high factor. 0 if the factor is not between.
uint64_t blended_context(double factor, double largest, size_t i, size_t n_pairs, double base) {
  if (!(factor > 1.0001) || !(factor < largest * 0.9999)) return 0;
  const double smooth = (1 / factor - 1 / largest) / (1 - 1 / largest);
  const double wave =
      2 * std::numbers::pi * std::pow(base, static_cast<double>(i) / static_cast<double>(n_pairs));
  const double context = wave * (1 + 3 * smooth);
  return context < 1e9 ? static_cast<uint64_t>(std::llround(context)) : 0;
}

// rope_freqs.weight is Llama 3's scaling with its parameters left out. They are the same in all
// models that were published with it, but for the factor; of others the original context is told
// from the tensor. What they give is compared with it.
Result<json> llama3_scaling(const ModelFile& model, const TensorInfo& tensor, const json& config) {
  std::vector<float> factors(static_cast<size_t>(tensor.n_values()));
  TRY(model.read_rows_f32(tensor, 0, factors));
  float largest = 1;
  for (const float factor : factors) largest = std::max(largest, factor);
  const double base = config.contains("rope_theta") ? config["rope_theta"].get<double>() : 10000;
  std::vector<uint64_t> contexts = {8192};
  for (size_t i = 0; i < factors.size() && contexts.size() < 2; ++i)
    if (const uint64_t context = blended_context(factors[i], largest, i, factors.size(), base))
      contexts.push_back(context);
  for (const uint64_t context : contexts) {
    const json scaling = {{"rope_type", "llama3"},
                          {"factor", largest},
                          {"low_freq_factor", 1.0},
                          {"high_freq_factor", 4.0},
                          {"original_max_position_embeddings", context}};
    json with = config;
    with["rope_scaling"] = scaling;
    const auto expected = TRY(llama3_rope_factors(HfConfig(std::move(with), model.path)));
    bool same = expected.size() == factors.size();
    for (size_t i = 0; same && i < factors.size(); ++i)
      same = std::abs(expected[i] - factors[i]) <= 1e-4f * factors[i];
    if (same) return scaling;
  }
  return error(Code::kUnsupported,
               "{}: rope_freqs.weight is not Llama 3's scaling with its usual "
               "parameters, and config.json has no other way to say it",
               model.path);
}

Result<json> factor_list(const ModelFile& model, const TensorInfo& tensor) {
  std::vector<float> factors(static_cast<size_t>(tensor.n_values()));
  TRY(model.read_rows_f32(tensor, 0, factors));
  json list = json::array();
  for (const float factor : factors) list.push_back(shortest(factor));
  return list;
}

// `times * value`, so that dividing by `times` gives the same f32 again.
double product(float value, double times) {
  return fewest_digits(times * static_cast<double>(value),
                       [&](double d) { return static_cast<float>(d / times) == value; });
}

// What a scaling has beside its type and its factor.
Status add_scaling_fields(const ModelFile& model, const std::string& type, json& scaling) {
  const auto key = [&](std::string_view name) { return arch_key(model.metadata, name); };
  const auto copy = [&](const char* field, std::string_view name, double times) -> Status {
    if (model.metadata.contains(key(name)))
      scaling[field] = product(static_cast<float>(TRY(model.metadata.get_float(key(name)))), times);
    return {};
  };
  if (type == "yarn") {
    const double grown = 1 + 0.1 * std::log(scaling["factor"].get<double>());
    TRY(copy("attention_factor", "rope.scaling.yarn_attn_factor", grown));
    TRY(copy("beta_fast", "rope.scaling.yarn_beta_fast", 1));
    return copy("beta_slow", "rope.scaling.yarn_beta_slow", 1);
  }
  if (type != "longrope") return {};
  scaling.erase("factor");
  scaling["attention_factor"] =
      shortest(TRY(model.metadata.float_or(key("rope.scaling.attn_factor"), 1)));
  for (const char* length : {"short", "long"}) {
    const std::string name = fmt::format("rope_factors_{}.weight", length);
    const TensorInfo* tensor = model.find(name);
    if (!tensor) return error(Code::kNotFound, "{}: the tensor {} is missing", model.path, name);
    scaling[fmt::format("{}_factor", length)] = TRY(factor_list(model, *tensor));
  }
  return {};
}

Result<json> rope_scaling(const ModelFile& model, const json& config) {
  if (const TensorInfo* tensor = model.find("rope_freqs.weight"))
    return llama3_scaling(model, *tensor, config);
  const auto key = [&](std::string_view name) { return arch_key(model.metadata, name); };
  std::string type = TRY(model.metadata.string_or(key("rope.scaling.type"), "none"));
  if (model.find("rope_factors_long.weight")) type = "longrope";
  if (type == "none") return json(nullptr);
  json scaling = {{"rope_type", type}, {"type", type}};
  scaling["factor"] = shortest(TRY(model.metadata.float_or(key("rope.scaling.factor"), 1)));
  const std::string original = key("rope.scaling.original_context_length");
  if (model.metadata.contains(original))
    scaling["original_max_position_embeddings"] = TRY(model.metadata.get_uint(original));
  TRY(add_scaling_fields(model, type, scaling));
  return scaling;
}

Status put_special_ids(const Metadata& metadata, json& config) {
  for (const auto& [field, name] :
       {std::pair("bos", "bos"), std::pair("eos", "eos"), std::pair("pad", "padding")})
    if (const std::string key = fmt::format("tokenizer.ggml.{}_token_id", name);
        metadata.contains(key))
      config[fmt::format("{}_token_id", field)] = TRY(metadata.get_uint(key));
  return {};
}

Result<uint64_t> head_size(const ModelFile& model) {
  const Metadata& metadata = model.metadata;
  const std::string key = arch_key(metadata, "attention.key_length");
  if (metadata.contains(key)) return metadata.get_uint(key);
  const uint64_t heads = TRY(metadata.get_uint(arch_key(metadata, "attention.head_count")));
  const uint64_t width = TRY(metadata.get_uint(arch_key(metadata, "embedding_length")));
  if (heads == 0 || width % heads != 0)
    return error(Code::kCorrupt, "{}: {} heads do not divide the width {}", model.path, heads,
                 width);
  return width / heads;
}

}  // namespace

double shortest(double value) { return std::stod(fmt::format("{}", static_cast<float>(value))); }

double fewest_digits(double exact, const std::function<bool(double)>& same) {
  for (int digits = 1; digits < 17; ++digits)
    if (const double rounded = std::stod(fmt::format("{:.{}g}", exact, digits)); same(rounded))
      return rounded;
  return exact;
}

Status put_uint(const ModelFile& model, std::string_view name, std::string_view field,
                json& config) {
  if (const std::string key = arch_key(model.metadata, name); model.metadata.contains(key))
    config[std::string(field)] = TRY(model.metadata.get_uint(key));
  return {};
}

Status put_number(const ModelFile& model, std::string_view name, std::string_view field,
                  json& config) {
  if (const std::string key = arch_key(model.metadata, name); model.metadata.contains(key))
    config[std::string(field)] = shortest(TRY(model.metadata.get_float(key)));
  return {};
}

Status put_heads(const ModelFile& model, HeadDefaults defaults, json& config) {
  const Metadata& metadata = model.metadata;
  const auto key = [&](std::string_view name) { return arch_key(metadata, name); };
  const uint64_t size = TRY(head_size(model));
  for (const char* name : {"attention.value_length", "rope.dimension_count"})
    if (const uint64_t other = TRY(metadata.uint_or(key(name), size)); other != size)
      return error(Code::kUnsupported,
                   "{}: {} is {}, the heads' size is {}; config.json has no words for that",
                   model.path, key(name), other, size);
  if (defaults.size || metadata.contains(key("attention.key_length"))) config["head_dim"] = size;
  const uint64_t heads = TRY(metadata.get_uint(key("attention.head_count")));
  if (defaults.n_kv_heads || metadata.contains(key("attention.head_count_kv")))
    config["num_key_value_heads"] = TRY(metadata.uint_or(key("attention.head_count_kv"), heads));
  return {};
}

Status put_expert_width(const ModelFile& model, json& config) {
  TRY(put_uint(model, "expert_feed_forward_length", "moe_intermediate_size", config));
  if (config.contains("moe_intermediate_size")) return {};
  for (const TensorInfo& tensor : model.tensors)
    if (tensor.name.ends_with(".ffn_up_exps.weight") && tensor.dims.size() == 3)
      config["moe_intermediate_size"] = tensor.dims[1];
  return {};
}

void rename_field(json& config, std::string_view from, std::string_view to) {
  const auto it = config.find(from);
  if (it == config.end()) return;
  json value = std::move(*it);
  config.erase(it);
  config[std::string(to)] = std::move(value);
}

Status put_query_scalar(const ModelFile& model, uint64_t largest_depth, json& config) {
  const std::string key = arch_key(model.metadata, "attention.scale");
  json& field = config["query_pre_attn_scalar"];
  if (!model.metadata.contains(key)) {
    const uint64_t width =
        TRY(model.metadata.get_uint(arch_key(model.metadata, "embedding_length")));
    const uint64_t heads =
        TRY(model.metadata.get_uint(arch_key(model.metadata, "attention.head_count")));
    const uint64_t depth = TRY(model.metadata.get_uint(arch_key(model.metadata, "block_count")));
    field = depth == largest_depth && heads > 0 ? width / heads : TRY(head_size(model));
    return {};
  }
  const auto scale = static_cast<float>(TRY(model.metadata.get_float(key)));
  if (!(scale > 0)) return error(Code::kCorrupt, "{}: {} is {}", model.path, key, scale);
  const double exact = 1 / (static_cast<double>(scale) * static_cast<double>(scale));
  field = fewest_digits(
      exact, [&](double d) { return d > 0 && static_cast<float>(1 / std::sqrt(d)) == scale; });
  return {};
}

Result<json> hf_config_json(const ModelFile& model, const HfArchitecture& architecture,
                            const HfClass& its_class, std::string_view dtype) {
  json config = {{"architectures", json::array({its_class.name})},
                 {"model_type", its_class.model_type},
                 {"tie_word_embeddings", model.find("output.weight") == nullptr},
                 {"torch_dtype", dtype == "F32"   ? "float32"
                                 : dtype == "F16" ? "float16"
                                                  : "bfloat16"}};
  if (model.find("blk.0.attn_q.weight"))
    config["attention_bias"] = model.find("blk.0.attn_q.bias") != nullptr;
  for (const FieldName& field : kUints) TRY(put_uint(model, field.gguf, field.hf, config));
  for (const FieldName& field : kNumbers) TRY(put_number(model, field.gguf, field.hf, config));
  config[std::string(architecture.activation.field)] = TRY(model.metadata.string_or(
      arch_key(model.metadata, "hidden_activation"), architecture.activation.usual));
  if (const TensorInfo* embedding = model.find("token_embd.weight"))
    config["vocab_size"] = embedding->n_rows();
  TRY(put_special_ids(model.metadata, config));
  TRY(architecture.set_config(model, config));
  json scaling = TRY(rope_scaling(model, config));
  if (!scaling.is_null()) {
    // The family may have added fields of its own.
    if (const auto own = config.find("rope_scaling"); own != config.end()) scaling.update(*own);
    config["rope_scaling"] = std::move(scaling);
  }
  return config;
}

}  // namespace venturi
