// Qwen 3 with experts.
#include "formats/hf_config_write.h"
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

Status set_config(const ModelFile& model, nlohmann::json& config) {
  config["use_sliding_window"] = false;
  config["decoder_sparse_step"] = 1;
  config["mlp_only_layers"] = nlohmann::json::array();
  config["norm_topk_prob"] = true;
  TRY(put_heads(model, {.size = true, .n_kv_heads = true}, config));
  TRY(put_uint(model, "expert_count", "num_experts", config));
  TRY(put_uint(model, "expert_used_count", "num_experts_per_tok", config));
  return put_expert_width(model, config);
}

}  // namespace

extern const HfArchitecture hf_qwen3moe;
const HfArchitecture hf_qwen3moe{.name = "qwen3moe",
                                 .classes = kClasses,
                                 .prefixes = {},
                                 .rules = kRules,
                                 .set_metadata = set_metadata,
                                 .model_type = "qwen3_moe",
                                 .set_config = set_config};

}  // namespace venturi
