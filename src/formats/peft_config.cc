#define PCRE2_CODE_UNIT_WIDTH 8
#include "formats/peft_config.h"

#include <pcre2.h>

#include <algorithm>
#include <cmath>

#include "formats/adapter.h"
#include "formats/byte_cursor.h"
#include "formats/json_text.h"

namespace venturi {

using nlohmann::json;

struct ModulePattern::Compiled {
  pcre2_code* code = nullptr;
  ~Compiled() { pcre2_code_free(code); }
};

namespace {

constexpr size_t kMaxPatternBytes = 4096, kMaxPatterns = 256, kMaxTargets = 4096;
// Of one match: names are short, and a pattern that backtracks further is not meant well.
constexpr uint32_t kMatchLimit = 20'000;

// Fields that change nothing here: they were for training, or say what the tensors say themselves.
constexpr std::string_view kNoMatter[] = {
    "auto_mapping", "base_model_name_or_path", "corda_config", "ephemeral_gpu_offload", "eva_config",
    "exclude_modules", "fan_in_fan_out", "inference_mode", "layers_pattern", "layers_to_transform",
    "loftq_config", "lora_dropout", "lora_ga_config", "megatron_core", "peft_version", "qalora_group_size",
    "revision", "runtime_config", "task_type"};
constexpr std::string_view kRead[] = {"peft_type", "r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern",
                                      "target_modules", "init_lora_weights"};

struct Refused {
  std::string_view field, why;
};
constexpr Refused kRefused[] = {
    {"use_dora", "DoRA scales each row of the merged weight, which cannot be had unmerged"},
    {"modules_to_save", "whole modules of its own are not supported"},
    {"bias", "biases of its own are not supported"},
    {"lora_bias", "biases of its own are not supported"},
    {"layer_replication", "layers that stand several times are not supported"},
    {"trainable_token_indices", "embeddings of its own are not supported"},
    {"target_parameters", "parameters that are no module's weight are not supported"},
    {"alora_invocation_tokens", "adapters that begin in the middle of a sequence are not supported"},
    {"use_qalora", "inputs summed in groups are not supported"},
    {"megatron_config", "parts of a model that was split are not supported"},
};

// A field that asks for nothing.
bool asks_nothing(const json& value) {
  return value.is_null() || value == false || value == "none" ||
         ((value.is_array() || value.is_object() || value.is_string()) && value.empty());
}

template <size_t n>
bool among(const std::string_view (&names)[n], std::string_view name) {
  return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

Status check_fields(const json& config, const std::string& path) {
  for (const auto& [field, value] : config.items()) {
    if (among(kNoMatter, field) || among(kRead, field) || asks_nothing(value)) continue;
    for (const Refused& refused : kRefused)
      if (refused.field == field) return error(Code::kUnsupported, "{}: '{}' is set: {}", path, field, refused.why);
    return error(Code::kUnsupported, "{}: the field {} is not known here, and an adapter may not be used without knowing what it asks for",
                 path, shown(field));
  }
  return {};
}

// What the base's weights have to be is what they are, unless the beginning changed them.
Status check_initialisation(const json& config, const std::string& path) {
  const auto at = config.find("init_lora_weights");
  if (at == config.end() || at->is_null() || at->is_boolean()) return {};
  if (at->is_string()) {
    const std::string& name = at->get_ref<const std::string&>();
    if (name == "gaussian" || name == "eva") return {};
    return error(Code::kUnsupported,
                 "{}: 'init_lora_weights' is {}, which changes the base's weights; save the adapter converted to plain LoRA", path,
                 shown(name));
  }
  return error(Code::kCorrupt, "{}: 'init_lora_weights': expected true, false or a name", path);
}

Result<double> number_of(const json& value, const std::string& path, std::string_view field) {
  const double number = value.is_number() ? value.get<double>() : NAN;
  if (!std::isfinite(number) || std::abs(number) > 1e6)
    return error(Code::kCorrupt, "{}: '{}': expected a number up to 1000000", path, field);
  return number;
}

Result<int64_t> rank_from(double value, const std::string& path, std::string_view field) {
  if (!(value >= 1 && value <= static_cast<double>(kMaxAdapterRank)) || value != std::floor(value))
    return error(Code::kCorrupt, "{}: '{}': expected a rank from 1 to {}", path, field, kMaxAdapterRank);
  return static_cast<int64_t>(value);
}

Result<bool> flag_of(const json& config, const std::string& path, const char* field) {
  const auto at = config.find(field);
  if (at == config.end() || at->is_null()) return false;
  if (!at->is_boolean()) return error(Code::kCorrupt, "{}: '{}': expected true or false", path, field);
  return at->get<bool>();
}

Result<std::vector<std::pair<ModulePattern, double>>> patterns_of(const json& config, const std::string& path, const char* field) {
  std::vector<std::pair<ModulePattern, double>> patterns;
  const auto at = config.find(field);
  if (at == config.end() || at->is_null()) return patterns;
  if (!at->is_object() || at->size() > kMaxPatterns)
    return error(Code::kCorrupt, "{}: '{}': expected an object of at most {} patterns", path, field, kMaxPatterns);
  for (const auto& [key, value] : at->items()) {
    // peft lets a key be the end of a name.
    auto pattern = ModulePattern::compile("(?:.*\\.)?(?:" + key + ")");
    if (!pattern) return std::move(pattern).error().within(fmt::format("{}: '{}'", path, field));
    patterns.emplace_back(std::move(*pattern), TRY(number_of(value, path, field)));
  }
  return patterns;
}

Status read_targets(const json& config, PeftConfig& out) {
  const auto at = config.find("target_modules");
  if (at != config.end() && at->is_string()) {
    const std::string& text = at->get_ref<const std::string&>();
    out.all_linear = text == "all-linear";
    if (out.all_linear) return {};
    auto pattern = ModulePattern::compile(text);
    if (!pattern) return std::move(pattern).error().within(out.path + ": 'target_modules'");
    out.target = std::move(*pattern);
    return {};
  }
  if (at == config.end() || !at->is_array() || at->empty() || at->size() > kMaxTargets)
    return error(Code::kCorrupt, "{}: 'target_modules': expected a list of names, a pattern or \"all-linear\"", out.path);
  for (const json& name : *at) {
    if (!name.is_string() || name.get_ref<const std::string&>().empty())
      return error(Code::kCorrupt, "{}: 'target_modules': expected names", out.path);
    out.targets.push_back(name.get<std::string>());
  }
  return {};
}

// Of the first pattern that matches, or `otherwise`.
Result<double> value_for(const std::vector<std::pair<ModulePattern, double>>& patterns, std::string_view module, double otherwise) {
  for (const auto& [pattern, value] : patterns)
    if (TRY(pattern.matches(module))) return value;
  return otherwise;
}

}  // namespace

Result<ModulePattern> ModulePattern::compile(const std::string& pattern) {
  if (pattern.size() > kMaxPatternBytes)
    return error(Code::kCorrupt, "a pattern of {} bytes; at most {} are read", pattern.size(), kMaxPatternBytes);
  int problem = 0;
  size_t offset = 0;
  auto compiled = std::make_shared<Compiled>();
  compiled->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                 PCRE2_ANCHORED | PCRE2_ENDANCHORED | PCRE2_NEVER_BACKSLASH_C, &problem, &offset, nullptr);
  if (!compiled->code) {
    char message[160] = "";
    pcre2_get_error_message(problem, reinterpret_cast<PCRE2_UCHAR*>(message), sizeof message);
    return error(Code::kCorrupt, "the pattern {} does not compile: {} at {}", shown(pattern), message, offset);
  }
  ModulePattern out;
  out.text_ = pattern;
  out.compiled_ = std::move(compiled);
  return out;
}

Result<bool> ModulePattern::matches(std::string_view name) const {
  pcre2_match_data* data = pcre2_match_data_create(1, nullptr);
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  pcre2_set_match_limit(context, kMatchLimit);
  pcre2_set_depth_limit(context, kMatchLimit);
  const int found = pcre2_match(compiled_->code, reinterpret_cast<PCRE2_SPTR>(name.data()), name.size(), 0, 0, data, context);
  pcre2_match_context_free(context);
  pcre2_match_data_free(data);
  if (found < 0 && found != PCRE2_ERROR_NOMATCH)
    return error(Code::kCorrupt, "the pattern {} takes too long on {}", shown(text_), shown(name));
  return found >= 0;
}

Result<int64_t> PeftConfig::rank_of(std::string_view module) const {
  return rank_from(TRY(value_for(ranks, module, static_cast<double>(rank))), path, "rank_pattern");
}

Result<float> PeftConfig::scale_of(std::string_view module) const {
  const auto r = static_cast<double>(TRY(rank_of(module)));
  return static_cast<float>(TRY(value_for(alphas, module, alpha)) / (rank_stabilised ? std::sqrt(r) : r));
}

Result<bool> PeftConfig::adapts(std::string_view module) const {
  if (all_linear) return true;
  if (target) return target->matches(module);
  return std::any_of(targets.begin(), targets.end(), [&](const std::string& name) {
    if (!module.ends_with(name)) return false;
    return module.size() == name.size() || module[module.size() - name.size() - 1] == '.';
  });
}

Result<PeftConfig> parse_peft_config(std::string_view text, const std::string& path) {
  const json config = TRY(parse_json(text, path));
  if (!config.is_object()) return error(Code::kCorrupt, "{}: expected an object", path);
  const auto type = config.find("peft_type");
  if (type == config.end() || !type->is_string()) return error(Code::kCorrupt, "{}: 'peft_type' is missing", path);
  if (*type != "LORA")
    return error(Code::kUnsupported, "{}: 'peft_type' is {}; LORA is what can be used", path, shown(type->get<std::string>()));
  TRY(check_fields(config, path));
  TRY(check_initialisation(config, path));
  PeftConfig out{.path = path};
  if (const auto at = config.find("r"); at != config.end()) out.rank = TRY(rank_from(TRY(number_of(*at, path, "r")), path, "r"));
  if (const auto at = config.find("lora_alpha"); at != config.end()) out.alpha = TRY(number_of(*at, path, "lora_alpha"));
  out.rank_stabilised = TRY(flag_of(config, path, "use_rslora"));
  out.ranks = TRY(patterns_of(config, path, "rank_pattern"));
  out.alphas = TRY(patterns_of(config, path, "alpha_pattern"));
  TRY(read_targets(config, out));
  return out;
}

}  // namespace venturi
