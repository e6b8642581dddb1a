// Qwen 3 with experts.
#include "formats/hf_architecture.h"

namespace venturi {

namespace {

constexpr std::string_view kClasses[] = {"Qwen3MoeForCausalLM"};

constexpr HfRule kRules[] = {
    {"model.embed_tokens.weight", "token_embd.weight"},
    {"model.norm.weight", "output_norm.weight"},
    {"lm_head.weight", "output.weight"},
    {"model.layers.{}.input_layernorm.weight", "blk.{}.attn_norm.weight"},
    {"model.layers.{}.post_attention_layernorm.weight", "blk.{}.ffn_norm.weight"},
    {"model.layers.{}.self_attn.q_proj.*", "blk.{}.attn_q.*"},
    {"model.layers.{}.self_attn.k_proj.*", "blk.{}.attn_k.*"},
    {"model.layers.{}.self_attn.v_proj.*", "blk.{}.attn_v.*"},
    {"model.layers.{}.self_attn.o_proj.*", "blk.{}.attn_output.*"},
    {"model.layers.{}.self_attn.q_norm.weight", "blk.{}.attn_q_norm.weight"},
    {"model.layers.{}.self_attn.k_norm.weight", "blk.{}.attn_k_norm.weight"},
    {"model.layers.{}.mlp.gate.weight", "blk.{}.ffn_gate_inp.weight"},
    {"model.layers.{}.mlp.experts.{e}.gate_proj.weight", "blk.{}.ffn_gate_exps.weight"},
    {"model.layers.{}.mlp.experts.{e}.up_proj.weight", "blk.{}.ffn_up_exps.weight"},
    {"model.layers.{}.mlp.experts.{e}.down_proj.weight", "blk.{}.ffn_down_exps.weight"},
};

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
