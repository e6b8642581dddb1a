// Qwen 3 with experts.
#include "formats/hf_rules.h"

namespace venturi {

namespace {

constexpr std::string_view kClasses[] = {"Qwen3MoeForCausalLM"};

constexpr auto kRules = hf_rules::join(hf_rules::kFrame, hf_rules::kAttention, hf_rules::kHeadNorms,
                                       hf_rules::kExperts);

Status set_metadata(const HfConfig& config, Metadata& metadata) {
  TRY(copy_uint(config, "num_experts", "expert_count", metadata));
  TRY(copy_uint(config, "num_experts_per_tok", "expert_used_count", metadata));
  TRY(copy_uint(config, "moe_intermediate_size", "expert_feed_forward_length", metadata));
  const auto only = config.find("mlp_only_layers");
  if (only && !only->empty())
    return error(Code::kUnsupported,
                 "{}: mlp_only_layers is set, which GGUF cannot say for qwen3moe", config.path());
  return {};
}

}  // namespace

extern const HfArchitecture hf_qwen3moe;
const HfArchitecture hf_qwen3moe{.name = "qwen3moe",
                                 .classes = kClasses,
                                 .prefixes = {},
                                 .rules = kRules,
                                 .set_metadata = set_metadata};

}  // namespace venturi
