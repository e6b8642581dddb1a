// Qwen 3, dense.
#include "formats/hf_architecture.h"

namespace venturi {

namespace {

constexpr std::string_view kClasses[] = {"Qwen3ForCausalLM"};

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
    {"model.layers.{}.mlp.gate_proj.*", "blk.{}.ffn_gate.*"},
    {"model.layers.{}.mlp.up_proj.*", "blk.{}.ffn_up.*"},
    {"model.layers.{}.mlp.down_proj.*", "blk.{}.ffn_down.*"},
    {"model.layers.{}.self_attn.rotary_emb.inv_freq", ""},
};

Status set_metadata(const HfConfig& config, Metadata&) {
  if (TRY(config.flag({"use_sliding_window"})).value_or(false))
    return error(Code::kUnsupported,
                 "{}: use_sliding_window is true, which GGUF cannot say for qwen3", config.path());
  return {};
}

}  // namespace

extern const HfArchitecture hf_qwen3;
const HfArchitecture hf_qwen3{.name = "qwen3",
                              .classes = kClasses,
                              .prefixes = {},
                              .rules = kRules,
                              .set_metadata = set_metadata};

}  // namespace venturi
