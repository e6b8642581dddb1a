// Llama 1 to 3.x, Mistral and Mixtral: one family in GGUF.
#include "formats/hf_rules.h"

namespace venturi {

namespace {

constexpr std::string_view kClasses[] = {"LlamaForCausalLM", "LLaMAForCausalLM",
                                         "MistralForCausalLM", "MixtralForCausalLM"};

constexpr auto kMixtral = std::to_array<HfRule>({
    {"model.layers.{}.block_sparse_moe.gate.weight", "blk.{}.ffn_gate_inp.weight"},
    {"model.layers.{}.block_sparse_moe.experts.{e}.w1.weight", "blk.{}.ffn_gate_exps.weight"},
    {"model.layers.{}.block_sparse_moe.experts.{e}.w3.weight", "blk.{}.ffn_up_exps.weight"},
    {"model.layers.{}.block_sparse_moe.experts.{e}.w2.weight", "blk.{}.ffn_down_exps.weight"},
});
constexpr auto kRules = hf_rules::join(hf_rules::kFrame, hf_rules::kPairedAttention,
                                       hf_rules::kGatedFeedForward, kMixtral, hf_rules::kUnneeded);

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
