// Qwen 1.5, 2 and 2.5.
#include "formats/hf_config_write.h"
#include "formats/hf_rules.h"

namespace venturi {

namespace {

constexpr std::string_view kClasses[] = {"Qwen2ForCausalLM"};

constexpr auto kRules = hf_rules::join(hf_rules::kFrame, hf_rules::kAttention,
                                       hf_rules::kGatedFeedForward, hf_rules::kUnneeded);

// sliding_window is there in every config, but only in use when use_sliding_window says so, and
// then from block max_window_layers on: GGUF has no key for that.
Status set_metadata(const HfConfig& config, Metadata&) {
  if (TRY(config.flag({"use_sliding_window"})).value_or(false))
    return error(Code::kUnsupported,
                 "{}: use_sliding_window is true, which GGUF cannot say for qwen2", config.path());
  return {};
}

Status set_config(const ModelFile& model, nlohmann::json& config) {
  config["use_sliding_window"] = false;
  return put_heads(model, {.n_kv_heads = true}, config);
}

}  // namespace

extern const HfArchitecture hf_qwen2;
const HfArchitecture hf_qwen2{.name = "qwen2",
                              .classes = kClasses,
                              .prefixes = {},
                              .rules = kRules,
                              .set_metadata = set_metadata,
                              .model_type = "qwen2",
                              .set_config = set_config};

}  // namespace venturi
