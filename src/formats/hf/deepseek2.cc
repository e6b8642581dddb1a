// DeepSeek 2, 2.5, 3 and R1: latent attention and experts.
#include "base/checked.h"
#include "formats/hf_rules.h"

namespace venturi {

namespace {

constexpr std::string_view kClasses[] = {"DeepseekV2ForCausalLM", "DeepseekV3ForCausalLM"};

constexpr auto kLatentAttention = std::to_array<HfRule>({
    {"model.layers.{}.self_attn.q_proj.weight", "blk.{}.attn_q.weight"},
    {"model.layers.{}.self_attn.q_a_proj.weight", "blk.{}.attn_q_a.weight"},
    {"model.layers.{}.self_attn.q_a_layernorm.weight", "blk.{}.attn_q_a_norm.weight"},
    {"model.layers.{}.self_attn.q_b_proj.weight", "blk.{}.attn_q_b.weight"},
    {"model.layers.{}.self_attn.kv_a_proj_with_mqa.weight", "blk.{}.attn_kv_a_mqa.weight"},
    {"model.layers.{}.self_attn.kv_a_layernorm.weight", "blk.{}.attn_kv_a_norm.weight"},
    {"model.layers.{}.self_attn.kv_b_proj.weight", "blk.{}.attn_kv_b.weight"},
    {"model.layers.{}.self_attn.o_proj.weight", "blk.{}.attn_output.weight"},
});

constexpr auto kSharedExperts = std::to_array<HfRule>({
    {"model.layers.{}.mlp.gate.e_score_correction_bias", "blk.{}.exp_probs_b.bias"},
    {"model.layers.{}.mlp.shared_experts.gate_proj.weight", "blk.{}.ffn_gate_shexp.weight"},
    {"model.layers.{}.mlp.shared_experts.up_proj.weight", "blk.{}.ffn_up_shexp.weight"},
    {"model.layers.{}.mlp.shared_experts.down_proj.weight", "blk.{}.ffn_down_shexp.weight"},
});
constexpr auto kRules =
    hf_rules::join(hf_rules::kFrame, kLatentAttention, hf_rules::kGatedFeedForward,
                   hf_rules::kExperts, kSharedExperts, hf_rules::kUnneeded);

// The multi-token prediction head of V3 is a block past the last one: left out.
Status set_experts(const HfConfig& config, Metadata& metadata) {
  TRY(copy_uint(config, "first_k_dense_replace", "leading_dense_block_count", metadata));
  TRY(copy_uint(config, "n_routed_experts", "expert_count", metadata));
  TRY(copy_uint(config, "num_experts_per_tok", "expert_used_count", metadata));
  TRY(copy_uint(config, "n_shared_experts", "expert_shared_count", metadata));
  TRY(copy_uint(config, "moe_intermediate_size", "expert_feed_forward_length", metadata));
  TRY(copy_uint(config, "n_group", "expert_group_count", metadata));
  TRY(copy_uint(config, "topk_group", "expert_group_used_count", metadata));
  TRY(copy_number(config, "routed_scaling_factor", "expert_weights_scale", metadata));
  metadata.set_bool("deepseek2.expert_weights_norm",
                    TRY(config.flag({"norm_topk_prob"})).value_or(false));
  // A config of V3's class that does not say is V3's own: sigmoid.
  const bool v3 = TRY(config.text({"model_type"})).value_or("") == "deepseek_v3";
  const std::string scoring =
      TRY(config.text({"scoring_func"})).value_or(v3 ? "sigmoid" : "softmax");
  if (scoring != "softmax" && scoring != "sigmoid")
    return error(Code::kUnsupported, "{}: scoring_func '{}'; known are softmax and sigmoid",
                 config.path(), scoring);
  metadata.set_uint("deepseek2.expert_gating_func", scoring == "softmax" ? 1 : 2);
  return {};
}

Status set_metadata(const HfConfig& config, Metadata& metadata) {
  const uint64_t nope = TRY(config.need_uint({"qk_nope_head_dim"}));
  const uint64_t rope = TRY(config.need_uint({"qk_rope_head_dim"}));
  const auto key_length = checked_add(nope, rope);
  if (!key_length)
    return error(Code::kCorrupt, "{}: qk_nope_head_dim plus qk_rope_head_dim passes 2^64",
                 config.path());
  metadata.set_uint("deepseek2.attention.key_length", *key_length);
  metadata.set_uint("deepseek2.attention.value_length", TRY(config.need_uint({"v_head_dim"})));
  metadata.set_uint("deepseek2.rope.dimension_count", rope);
  TRY(copy_uint(config, "q_lora_rank", "attention.q_lora_rank", metadata));
  TRY(copy_uint(config, "kv_lora_rank", "attention.kv_lora_rank", metadata));
  TRY(set_experts(config, metadata));
  // YaRN's attention temperature: 0.1 mscale_all_dim is the factor of the logarithm.
  const HfConfig scaling = TRY(config.object("rope_scaling"));
  if (const auto mscale = TRY(scaling.number({"mscale_all_dim"})))
    metadata.set_float("deepseek2.rope.scaling.yarn_log_multiplier",
                       static_cast<float>(0.1 * *mscale));
  return {};
}

}  // namespace

extern const HfArchitecture hf_deepseek2;
const HfArchitecture hf_deepseek2{.name = "deepseek2",
                                  .classes = kClasses,
                                  .prefixes = {},
                                  .rules = kRules,
                                  .set_metadata = set_metadata,
                                  .skips_extra_blocks = true};

}  // namespace venturi
