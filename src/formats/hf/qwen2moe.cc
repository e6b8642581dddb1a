// Qwen 1.5 and 2 with experts, one of them shared.
#include "formats/hf_config_write.h"
#include "formats/hf_rules.h"

namespace venturi {

namespace {

constexpr std::string_view kClasses[] = {"Qwen2MoeForCausalLM"};

constexpr auto kSharedExpert = std::to_array<HfRule>({
    {"model.layers.{}.mlp.shared_expert_gate.weight", "blk.{}.ffn_gate_inp_shexp.weight"},
    {"model.layers.{}.mlp.shared_expert.gate_proj.weight", "blk.{}.ffn_gate_shexp.weight"},
    {"model.layers.{}.mlp.shared_expert.up_proj.weight", "blk.{}.ffn_up_shexp.weight"},
    {"model.layers.{}.mlp.shared_expert.down_proj.weight", "blk.{}.ffn_down_shexp.weight"},
});
constexpr auto kRules =
    hf_rules::join(hf_rules::kFrame, hf_rules::kAttention, hf_rules::kExperts, kSharedExpert);

Status set_metadata(const HfConfig& config, Metadata& metadata) {
  TRY(copy_uint(config, "num_experts", "expert_count", metadata));
  TRY(copy_uint(config, "num_experts_per_tok", "expert_used_count", metadata));
  TRY(copy_uint(config, "moe_intermediate_size", "expert_feed_forward_length", metadata));
  return copy_uint(config, "shared_expert_intermediate_size", "expert_shared_feed_forward_length",
                   metadata);
}

// The shared expert's gate is one row; GGUF drops that dimension.
Status adjust(const Metadata&, TensorInfo& tensor) {
  if (tensor.name.ends_with("ffn_gate_inp_shexp.weight") && tensor.dims.size() == 2 &&
      tensor.dims[1] == 1)
    tensor.dims.pop_back();
  return {};
}

Status set_config(const ModelFile& model, nlohmann::json& config) {
  config["use_sliding_window"] = false;
  config["decoder_sparse_step"] = 1;
  config["mlp_only_layers"] = nlohmann::json::array();
  config["norm_topk_prob"] = false;
  TRY(put_heads(model, {.n_kv_heads = true}, config));
  TRY(put_uint(model, "expert_count", "num_experts", config));
  TRY(put_uint(model, "expert_used_count", "num_experts_per_tok", config));
  TRY(put_uint(model, "expert_shared_feed_forward_length", "shared_expert_intermediate_size",
               config));
  if (!config.contains("shared_expert_intermediate_size"))
    if (const TensorInfo* shared = model.find("blk.0.ffn_up_shexp.weight"))
      config["shared_expert_intermediate_size"] = shared->n_rows();
  return put_expert_width(model, config);
}

void restore(std::string_view name, std::vector<int64_t>& shape) {
  if (name.ends_with("ffn_gate_inp_shexp.weight")) shape.insert(shape.begin(), 1);
}

}  // namespace

extern const HfArchitecture hf_qwen2moe;
const HfArchitecture hf_qwen2moe{.name = "qwen2moe",
                                 .classes = kClasses,
                                 .prefixes = {},
                                 .rules = kRules,
                                 .set_metadata = set_metadata,
                                 .adjust = adjust,
                                 .model_type = "qwen2_moe",
                                 .set_config = set_config,
                                 .restore = restore};

}  // namespace venturi
