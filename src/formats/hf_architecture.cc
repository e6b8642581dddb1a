#include "formats/hf_architecture.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "formats/byte_cursor.h"
#include "hf_registry.inc"

namespace venturi {

namespace {

// Parts of a name that a pattern leaves open.
struct Captures {
  int block = -1, expert = -1;
  std::string_view ending;
};

// "weight" for itself and for "gamma", "bias" for itself and for "beta", else nothing.
std::string_view known_ending(std::string_view text) {
  if (text == "weight" || text == "gamma") return "weight";
  if (text == "bias" || text == "beta") return "bias";
  return {};
}

// Takes a number of at most six digits, without leading zeros, off the front of `text`.
bool take_number(std::string_view& text, int& number) {
  size_t n = 0;
  int value = 0;
  while (n < text.size() && n < 7 && text[n] >= '0' && text[n] <= '9')
    value = value * 10 + (text[n++] - '0');
  if (n == 0 || n == 7 || (n > 1 && text[0] == '0')) return false;
  text.remove_prefix(n);
  number = value;
  return true;
}

bool matches(std::string_view pattern, std::string_view name, Captures& captures) {
  while (!pattern.empty()) {
    if (pattern == "**") return true;
    if (pattern == "*") {
      captures.ending = known_ending(name);
      return !captures.ending.empty();
    }
    if (pattern.starts_with("{}")) {
      if (!take_number(name, captures.block)) return false;
      pattern.remove_prefix(2);
    } else if (pattern.starts_with("{e}")) {
      if (!take_number(name, captures.expert)) return false;
      pattern.remove_prefix(3);
    } else {
      if (name.empty() || name[0] != pattern[0]) return false;
      pattern.remove_prefix(1);
      name.remove_prefix(1);
    }
  }
  return name.empty();
}

std::string filled(std::string_view pattern, const Captures& captures) {
  std::string out;
  while (!pattern.empty()) {
    if (pattern == "*") return out.append(captures.ending);
    if (pattern.starts_with("{}")) {
      out += std::to_string(captures.block);
      pattern.remove_prefix(2);
    } else if (pattern.starts_with("{e}")) {
      out += std::to_string(captures.expert);
      pattern.remove_prefix(3);
    } else {
      out += pattern[0];
      pattern.remove_prefix(1);
    }
  }
  return out;
}

// rope_scaling, with the base, as transformers 4 ("rope_theta", "rope_scaling") and 5
// ("rope_parameters") keep them.
Result<HfConfig> rope_parameters(const HfConfig& config) {
  if (config.find("rope_scaling")) return config.object("rope_scaling");
  return config.object("rope_parameters");
}

Result<std::optional<double>> rope_base(const HfConfig& config) {
  const auto base = TRY(config.number({"rope_theta", "rotary_emb_base"}));
  if (base) return base;
  return TRY(config.object("rope_parameters")).number({"rope_theta"});
}

Result<std::string> rope_type(const HfConfig& rope) {
  const auto type = TRY(rope.text({"rope_type", "type"}));
  return type.value_or("default");
}

// Up to how many tokens the model was trained before its positions were stretched. Phi-3 keeps the
// number beside rope_scaling, the others in it.
Result<std::optional<uint64_t>> original_context(const HfConfig& config, const HfConfig& rope) {
  const auto original = TRY(rope.uint({"original_max_position_embeddings"}));
  if (original) return original;
  return config.uint({"original_max_position_embeddings"});
}

Status set_original_context(const HfConfig& config, const HfConfig& rope, Metadata& metadata) {
  const auto original = TRY(original_context(config, rope));
  const auto context = TRY(config.uint({"max_position_embeddings"}));
  if (original || context)
    metadata.set_uint(arch_key(metadata, "rope.scaling.original_context_length"),
                      original.value_or(context.value_or(0)));
  return {};
}

// What multiplies both parts of a rotated pair. Hugging Face's is the whole of it; GGUF's key is
// multiplied by 1 + 0.1 ln(factor) when a model is opened.
Status set_yarn_attention(const HfConfig& rope, double factor, Metadata& metadata) {
  const auto grown = [&](double mscale) {
    return factor <= 1 ? 1.0 : 0.1 * mscale * std::log(factor) + 1;
  };
  auto attention = TRY(rope.number({"attention_factor"}));
  const auto mscale = TRY(rope.number({"mscale"}));
  const auto all_dims = TRY(rope.number({"mscale_all_dim"}));
  if (!attention && mscale && all_dims && *mscale != 0 && *all_dims != 0)
    attention = grown(*mscale) / grown(*all_dims);
  if (attention)
    metadata.set_float(arch_key(metadata, "rope.scaling.yarn_attn_factor"),
                       static_cast<float>(*attention / (1 + 0.1 * std::log(factor))));
  return {};
}

Status set_yarn(const HfConfig& config, const HfConfig& rope, double factor, Metadata& metadata) {
  if (factor <= 0)
    return error(Code::kCorrupt, "{}: yarn's factor is {}, expected more than 0", config.path(),
                 factor);
  TRY(set_original_context(config, rope, metadata));
  TRY(set_yarn_attention(rope, factor, metadata));
  TRY(copy_number(rope, "beta_fast", "rope.scaling.yarn_beta_fast", metadata));
  return copy_number(rope, "beta_slow", "rope.scaling.yarn_beta_slow", metadata);
}

// LongRoPE: the factors are tensors; the keys hold where the long ones begin, and the magnitude.
Status set_long_rope(const HfConfig& config, const HfConfig& rope, Metadata& metadata) {
  metadata.set_string(arch_key(metadata, "rope.scaling.type"), "longrope");
  TRY(set_original_context(config, rope, metadata));
  const auto context = static_cast<double>(TRY(config.need_uint({"max_position_embeddings"})));
  const auto original = TRY(original_context(config, rope));
  const double trained = original ? static_cast<double>(*original) : context;
  const double factor =
      original ? context / trained : TRY(rope.number({"factor"})).value_or(1.0);
  if (!(trained > 1) || !(factor > 0))
    return error(Code::kCorrupt, "{}: longrope from {} to {} positions", config.path(), trained,
                 context);
  const double magnitude = factor <= 1 ? 1 : std::sqrt(1 + std::log(factor) / std::log(trained));
  metadata.set_float(
      arch_key(metadata, "rope.scaling.attn_factor"),
      static_cast<float>(TRY(rope.number({"attention_factor"})).value_or(magnitude)));
  return {};
}

bool is_long_rope(std::string_view type) { return type == "longrope" || type == "su"; }

Status set_rope_scaling(const HfConfig& config, Metadata& metadata) {
  const HfConfig rope = TRY(rope_parameters(config));
  const std::string type = TRY(rope_type(rope));
  // Llama 3's scaling becomes the tensor rope_freqs.weight, which needs no key.
  if (type == "default" || type == "llama3") return {};
  if (is_long_rope(type)) return set_long_rope(config, rope, metadata);
  if (type != "linear" && type != "dynamic" && type != "yarn")
    return error(Code::kUnsupported,
                 "{}: rope scaling of type {}; known are default, linear, dynamic, yarn, llama3 "
                 "and longrope",
                 config.path(), shown(type));
  // GGUF knows no "dynamic": the name is written as Hugging Face has it.
  metadata.set_string(arch_key(metadata, "rope.scaling.type"), type);
  const double factor = TRY(rope.need_number({"factor"}));
  metadata.set_float(arch_key(metadata, "rope.scaling.factor"), static_cast<float>(factor));
  if (type == "yarn") return set_yarn(config, rope, factor, metadata);
  if (type == "dynamic") return set_original_context(config, rope, metadata);
  return {};
}

Status set_first(const HfConfig& config, std::initializer_list<std::string_view> fields,
                 std::string_view name, Metadata& metadata) {
  if (const auto value = TRY(config.uint(fields)))
    metadata.set_uint(arch_key(metadata, name), *value);
  return {};
}

}  // namespace

std::span<const HfArchitecture* const> all_hf_architectures() { return kAll_HfArchitecture; }

const HfArchitecture* find_hf_architecture(std::string_view class_name) {
  for (const HfArchitecture* architecture : kAll_HfArchitecture)
    for (const std::string_view candidate : architecture->classes)
      if (candidate == class_name) return architecture;
  return nullptr;
}

Result<const HfArchitecture*> find_hf_family(std::string_view name) {
  std::string known;
  for (const HfArchitecture* architecture : kAll_HfArchitecture) {
    if (architecture->model_type.empty()) continue;
    if (architecture->name == name) return architecture;
    known.append(known.empty() ? "" : ", ").append(architecture->name);
  }
  return error(Code::kUnsupported,
               "the architecture {} cannot be written for Hugging Face; known are {}", shown(name),
               known);
}

std::string arch_key(const Metadata& metadata, std::string_view name) {
  const auto architecture = metadata.get_string("general.architecture");
  return fmt::format("{}.{}", architecture.ok() ? *architecture : "", name);
}

Status copy_uint(const HfConfig& config, std::string_view field, std::string_view name,
                 Metadata& metadata) {
  return set_first(config, {field}, name, metadata);
}

Status copy_number(const HfConfig& config, std::string_view field, std::string_view name,
                   Metadata& metadata) {
  if (const auto value = TRY(config.number({field})))
    metadata.set_float(arch_key(metadata, name), static_cast<float>(*value));
  return {};
}

Status set_common_metadata(const HfConfig& config, std::string_view architecture,
                           Metadata& metadata) {
  metadata.set_string("general.architecture", std::string(architecture));
  const auto blocks =
      TRY(config.need_uint({"num_hidden_layers", "n_layer", "n_layers", "num_layers"}));
  TRY(set_first(config, {"max_position_embeddings", "n_ctx", "n_positions"}, "context_length",
                metadata));
  TRY(set_first(config, {"hidden_size", "n_embd", "d_model"}, "embedding_length", metadata));
  metadata.set_uint(arch_key(metadata, "block_count"), blocks);
  TRY(set_first(config, {"intermediate_size", "n_inner"}, "feed_forward_length", metadata));
  TRY(set_first(config, {"num_attention_heads", "n_head"}, "attention.head_count", metadata));
  TRY(set_first(config, {"num_key_value_heads"}, "attention.head_count_kv", metadata));
  TRY(set_first(config, {"head_dim"}, "attention.key_length", metadata));
  TRY(set_first(config, {"head_dim"}, "attention.value_length", metadata));
  TRY(set_first(config, {"vocab_size"}, "vocab_size", metadata));
  TRY(copy_number(config, "rms_norm_eps", "attention.layer_norm_rms_epsilon", metadata));
  for (const char* name : {"layer_norm_eps", "layer_norm_epsilon", "norm_epsilon"})
    TRY(copy_number(config, name, "attention.layer_norm_epsilon", metadata));
  if (const auto base = TRY(rope_base(config)))
    metadata.set_float(arch_key(metadata, "rope.freq_base"), static_cast<float>(*base));
  return set_rope_scaling(config, metadata);
}

Status set_activation(const HfConfig& config, const HfActivation& activation, Metadata& metadata) {
  std::string name = TRY(config.text({activation.field})).value_or(std::string(activation.usual));
  if (name == "swish") name = "silu";
  if (name == "gelu_new") name = "gelu_pytorch_tanh";
  if (name == activation.usual) return {};
  if (!activation.named)
    return error(Code::kUnsupported,
                 "{}: {} is {}; this architecture is known here with {}", config.path(),
                 activation.field, shown(name), activation.usual);
  metadata.set_string(arch_key(metadata, "hidden_activation"), name);
  return {};
}

HfMatch match_hf_name(const HfArchitecture& architecture, std::string_view name) {
  std::string read(name);
  for (const HfPrefix& prefix : architecture.prefixes) {
    if (!name.starts_with(prefix.from)) continue;
    read = std::string(prefix.to).append(name.substr(prefix.from.size()));
    break;
  }
  for (size_t i = 0; i < architecture.rules.size(); ++i) {
    const HfRule& rule = architecture.rules[i];
    Captures captures;
    if (!matches(rule.hf, read, captures)) continue;
    return {&rule, i, captures.block, captures.expert, filled(rule.gguf, captures)};
  }
  return {};
}

bool is_gguf_name(std::string_view pattern, std::string_view name, int& block) {
  Captures captures;
  if (!matches(pattern, name, captures)) return false;
  block = captures.block;
  return true;
}

std::string hf_name_of(const HfArchitecture& architecture, std::string_view gguf_name, int expert,
                       const HfRule** rule) {
  for (const HfRule& candidate : architecture.rules) {
    Captures captures;
    if (candidate.gguf.empty() || !matches(candidate.gguf, gguf_name, captures)) continue;
    captures.expert = expert;
    *rule = &candidate;
    return filled(candidate.hf, captures);
  }
  return {};
}

Result<std::vector<float>> long_rope_factors(const HfConfig& config, std::string_view field) {
  const HfConfig rope = TRY(rope_parameters(config));
  if (!is_long_rope(TRY(rope_type(rope)))) return std::vector<float>();
  const nlohmann::json* list = rope.find(field);
  const auto is_number = [](const nlohmann::json& value) { return value.is_number(); };
  if (!list || !list->is_array() || list->empty() || list->size() > 65536 ||
      !std::all_of(list->begin(), list->end(), is_number))
    return error(Code::kCorrupt, "{}: longrope needs '{}', a list of numbers", config.path(), field);
  return list->get<std::vector<float>>();
}

Result<std::vector<float>> llama3_rope_factors(const HfConfig& config) {
  const HfConfig rope = TRY(rope_parameters(config));
  if (TRY(rope_type(rope)) != "llama3") return std::vector<float>();
  const double base = TRY(rope_base(config)).value_or(10000.0);
  const auto head_dim = TRY(config.uint({"head_dim"}));
  const uint64_t heads = TRY(config.need_uint({"num_attention_heads"}));
  const uint64_t dim = head_dim ? *head_dim
                       : heads  ? TRY(config.need_uint({"hidden_size"})) / heads
                                : 0;
  const double factor = TRY(rope.number({"factor"})).value_or(8.0);
  const double low = TRY(rope.number({"low_freq_factor"})).value_or(1.0);
  const double high = TRY(rope.number({"high_freq_factor"})).value_or(4.0);
  const double context =
      static_cast<double>(TRY(rope.uint({"original_max_position_embeddings"})).value_or(8192));
  if (dim == 0 || dim % 2 != 0 || dim > 65536 || base <= 0 || factor <= 0 || low <= 0 ||
      high <= low)
    return error(Code::kCorrupt,
                 "{}: llama3 rope scaling: expected an even head_dim up to 65536, a positive "
                 "base and factor, and 0 < low_freq_factor < high_freq_factor",
                 config.path());

  // Long waves are stretched by `factor`, short ones left, those between blended.
  std::vector<float> factors;
  for (uint64_t i = 0; i < dim; i += 2) {
    const double wave =
        2 * std::numbers::pi * std::pow(base, static_cast<double>(i) / static_cast<double>(dim));
    const double smooth = (context / wave - low) / (high - low);
    if (wave < context / high)
      factors.push_back(1);
    else if (wave > context / low)
      factors.push_back(static_cast<float>(factor));
    else
      factors.push_back(static_cast<float>(1 / ((1 - smooth) / factor + smooth)));
  }
  return factors;
}

}  // namespace venturi
