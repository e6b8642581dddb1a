// Llama 1 to 3.x, Mistral and Mixtral: one family in GGUF.
#include "formats/hf_architecture.h"

namespace venturi {

namespace {

constexpr std::string_view kClasses[] = {"LlamaForCausalLM", "LLaMAForCausalLM",
                                         "MistralForCausalLM", "MixtralForCausalLM"};

constexpr HfRule kRules[] = {
    {"model.embed_tokens.weight", "token_embd.weight"},
    {"model.norm.weight", "output_norm.weight"},
    {"lm_head.weight", "output.weight"},
    {"model.layers.{}.input_layernorm.weight", "blk.{}.attn_norm.weight"},
    {"model.layers.{}.post_attention_layernorm.weight", "blk.{}.ffn_norm.weight"},
    {"model.layers.{}.self_attn.q_proj.*", "blk.{}.attn_q.*", HfTransform::kRopeQuery},
    {"model.layers.{}.self_attn.k_proj.*", "blk.{}.attn_k.*", HfTransform::kRopeKey},
    {"model.layers.{}.self_attn.v_proj.*", "blk.{}.attn_v.*"},
    {"model.layers.{}.self_attn.o_proj.*", "blk.{}.attn_output.*"},
    {"model.layers.{}.mlp.gate_proj.*", "blk.{}.ffn_gate.*"},
    {"model.layers.{}.mlp.up_proj.*", "blk.{}.ffn_up.*"},
    {"model.layers.{}.mlp.down_proj.*", "blk.{}.ffn_down.*"},
    {"model.layers.{}.block_sparse_moe.gate.weight", "blk.{}.ffn_gate_inp.weight"},
    {"model.layers.{}.block_sparse_moe.experts.{e}.w1.weight", "blk.{}.ffn_gate_exps.weight"},
    {"model.layers.{}.block_sparse_moe.experts.{e}.w3.weight", "blk.{}.ffn_up_exps.weight"},
    {"model.layers.{}.block_sparse_moe.experts.{e}.w2.weight", "blk.{}.ffn_down_exps.weight"},
    {"model.layers.{}.self_attn.rotary_emb.inv_freq", ""},
};

Status set_metadata(const HfConfig& config, Metadata& metadata) {
  const auto head_dim = TRY(config.uint({"head_dim"}));
  const uint64_t heads = TRY(config.need_uint({"num_attention_heads"}));
  if (heads == 0)
    return error(Code::kCorrupt, "{}: field 'num_attention_heads' is 0", config.path());
  metadata.set_uint("llama.rope.dimension_count",
                    head_dim ? *head_dim : TRY(config.need_uint({"hidden_size"})) / heads);
  TRY(copy_uint(config, "sliding_window", "attention.sliding_window", metadata));
  TRY(copy_uint(config, "num_local_experts", "expert_count", metadata));
  return copy_uint(config, "num_experts_per_tok", "expert_used_count", metadata);
}

}  // namespace

extern const HfArchitecture hf_llama;
const HfArchitecture hf_llama{.name = "llama",
                              .classes = kClasses,
                              .prefixes = {},
                              .rules = kRules,
                              .set_metadata = set_metadata,
                              .activation = {.named = true}};

}  // namespace venturi
