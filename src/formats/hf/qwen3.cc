// Qwen 3, dense.
#include "formats/hf_config_write.h"
#include "formats/hf_rules.h"

namespace venturi {

namespace {

constexpr std::string_view kClasses[] = {"Qwen3ForCausalLM"};

constexpr auto kRules = hf_rules::join(hf_rules::kFrame, hf_rules::kAttention, hf_rules::kHeadNorms,
                                       hf_rules::kGatedFeedForward, hf_rules::kUnneeded);

Status set_metadata(const HfConfig& config, Metadata&) {
  if (TRY(config.flag({"use_sliding_window"})).value_or(false))
    return error(Code::kUnsupported,
                 "{}: use_sliding_window is true, which GGUF cannot say for qwen3", config.path());
  return {};
}

Status set_config(const ModelFile& model, nlohmann::json& config) {
  config["use_sliding_window"] = false;
  return put_heads(model, {.size = true, .n_kv_heads = true}, config);
}

}  // namespace

extern const HfArchitecture hf_qwen3;
const HfArchitecture hf_qwen3{.name = "qwen3",
                              .classes = kClasses,
                              .prefixes = {},
                              .rules = kRules,
                              .set_metadata = set_metadata,
                              .model_type = "qwen3",
                              .set_config = set_config};

}  // namespace venturi
