// Qwen 1.5 and 2 with experts, one of them shared.
#include "formats/hf_architecture.h"

namespace venturi {

namespace {

constexpr std::string_view kClasses[] = {"Qwen2MoeForCausalLM"};

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
    {"model.layers.{}.mlp.gate.weight", "blk.{}.ffn_gate_inp.weight"},
    {"model.layers.{}.mlp.experts.{e}.gate_proj.weight", "blk.{}.ffn_gate_exps.weight"},
    {"model.layers.{}.mlp.experts.{e}.up_proj.weight", "blk.{}.ffn_up_exps.weight"},
    {"model.layers.{}.mlp.experts.{e}.down_proj.weight", "blk.{}.ffn_down_exps.weight"},
    {"model.layers.{}.mlp.shared_expert_gate.weight", "blk.{}.ffn_gate_inp_shexp.weight"},
    {"model.layers.{}.mlp.shared_expert.gate_proj.weight", "blk.{}.ffn_gate_shexp.weight"},
    {"model.layers.{}.mlp.shared_expert.up_proj.weight", "blk.{}.ffn_up_shexp.weight"},
    {"model.layers.{}.mlp.shared_expert.down_proj.weight", "blk.{}.ffn_down_shexp.weight"},
};

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

}  // namespace

extern const HfArchitecture hf_qwen2moe;
const HfArchitecture hf_qwen2moe{.name = "qwen2moe",
                                 .classes = kClasses,
                                 .prefixes = {},
                                 .rules = kRules,
                                 .set_metadata = set_metadata,
                                 .adjust = adjust};

}  // namespace venturi
