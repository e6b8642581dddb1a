// DeepSeek 2, 2.5, 3 and R1: latent attention and experts.
#include <cmath>

#include "base/checked.h"
#include "formats/hf_config_write.h"
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

constexpr HfJoin kJoins[] = {{"model.layers.{}.self_attn.kv_b_proj.weight",
                              "blk.{}.attn_k_b.weight", "blk.{}.attn_v_b.weight"}};

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

constexpr std::string_view kLogMultiplier = "deepseek2.rope.scaling.yarn_log_multiplier";

// YaRN's attention temperature: 0.1 mscale_all_dim is the factor of the logarithm. Rotated parts
// are scaled by what mscale gives over what mscale_all_dim gives: one, which GGUF does not write.
Status set_temperature(const HfConfig& config, Metadata& metadata) {
  const HfConfig scaling = TRY(config.object("rope_scaling"));
  const auto mscale = TRY(scaling.number({"mscale"})),
             all_dims = TRY(scaling.number({"mscale_all_dim"}));
  if (mscale && *mscale != all_dims.value_or(0))
    return error(
        Code::kUnsupported,
        "{}: rope_scaling has mscale {} and mscale_all_dim {}, which GGUF can only say alike",
        config.path(), *mscale, all_dims.value_or(0));
  metadata.erase("deepseek2.rope.scaling.yarn_attn_factor");
  if (all_dims) metadata.set_float(kLogMultiplier, static_cast<float>(0.1 * *all_dims));
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
  return set_temperature(config, metadata);
}

Result<HfClass> class_of(const ModelFile& model) {
  const bool v3 = TRY(model.metadata.uint_or("deepseek2.expert_gating_func", 1)) == 2;
  return v3 ? HfClass{"DeepseekV3ForCausalLM", "deepseek_v3"}
            : HfClass{"DeepseekV2ForCausalLM", "deepseek_v2"};
}

Status put_experts(const ModelFile& model, nlohmann::json& config) {
  const Metadata& metadata = model.metadata;
  config["n_routed_experts"] = nullptr;  // both classes have defaults for what is left out
  config["n_shared_experts"] = nullptr;
  config["routed_scaling_factor"] = 1.0;
  TRY(put_uint(model, "leading_dense_block_count", "first_k_dense_replace", config));
  TRY(put_uint(model, "expert_count", "n_routed_experts", config));
  TRY(put_uint(model, "expert_used_count", "num_experts_per_tok", config));
  TRY(put_uint(model, "expert_shared_count", "n_shared_experts", config));
  TRY(put_number(model, "expert_weights_scale", "routed_scaling_factor", config));
  TRY(put_expert_width(model, config));
  const uint64_t groups = TRY(metadata.uint_or("deepseek2.expert_group_count", 1));
  config["n_group"] = groups;
  config["topk_group"] = TRY(metadata.uint_or("deepseek2.expert_group_used_count", groups));
  config["norm_topk_prob"] = TRY(metadata.bool_or("deepseek2.expert_weights_norm", false));
  const bool v3 = config["model_type"] == "deepseek_v3";
  config["scoring_func"] = v3 ? "sigmoid" : "softmax";
  config["topk_method"] = v3 ? "noaux_tc" : groups > 1 ? "group_limited_greedy" : "greedy";
  config["moe_layer_freq"] = 1;
  return {};
}

Status set_config(const ModelFile& model, nlohmann::json& config) {
  const Metadata& metadata = model.metadata;
  const auto size_of = [&](const char* name) -> Result<uint64_t> {
    // Files that describe attention over the latent keep the heads' own sizes in *_mla.
    const std::string key = fmt::format("deepseek2.attention.{}", name);
    return metadata.get_uint(metadata.contains(key + "_mla") ? key + "_mla" : key);
  };
  const uint64_t rope = TRY(metadata.get_uint("deepseek2.rope.dimension_count"));
  const uint64_t key_length = TRY(size_of("key_length"));
  if (rope > key_length)
    return error(Code::kCorrupt, "{}: rope.dimension_count {} is more than the key length {}",
                 model.path, rope, key_length);
  config["qk_nope_head_dim"] = key_length - rope;
  config["qk_rope_head_dim"] = rope;
  config["v_head_dim"] = TRY(size_of("value_length"));
  config["num_key_value_heads"] = TRY(metadata.get_uint("deepseek2.attention.head_count"));
  config["q_lora_rank"] = nullptr;
  TRY(put_uint(model, "attention.q_lora_rank", "q_lora_rank", config));
  TRY(put_uint(model, "attention.kv_lora_rank", "kv_lora_rank", config));
  TRY(put_experts(model, config));
  if (metadata.contains(kLogMultiplier)) {
    const auto multiplier = static_cast<float>(TRY(metadata.get_float(kLogMultiplier)));
    const double mscale = fewest_digits(10 * static_cast<double>(multiplier), [&](double d) {
      return static_cast<float>(0.1 * d) == multiplier;
    });
    config["rope_scaling"] = {{"mscale", mscale}, {"mscale_all_dim", mscale}};
  }
  return {};
}

}  // namespace

extern const HfArchitecture hf_deepseek2;
const HfArchitecture hf_deepseek2{.name = "deepseek2",
                                  .classes = kClasses,
                                  .prefixes = {},
                                  .rules = kRules,
                                  .set_metadata = set_metadata,
                                  .skips_extra_blocks = true,
                                  .model_type = "deepseek_v2",
                                  .class_of = class_of,
                                  .set_config = set_config,
                                  .joins = kJoins};

}  // namespace venturi
