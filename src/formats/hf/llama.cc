// Llama 1 to 3.x, Mistral and Mixtral: one family in GGUF.
#include "formats/hf_config_write.h"
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
  // Left out of a config, the base is the class's default; GGUF's is 10000.
  if (TRY(config.text({"model_type"})).value_or("") == "mixtral" &&
      !metadata.contains("llama.rope.freq_base"))
    metadata.set_float("llama.rope.freq_base", 1e6f);
  return copy_uint(config, "num_experts_per_tok", "expert_used_count", metadata);
}

Result<HfClass> class_of(const ModelFile& model) {
  if (TRY(model.metadata.uint_or("llama.expert_count", 0)) > 0)
    return HfClass{"MixtralForCausalLM", "mixtral"};
  if (TRY(model.metadata.uint_or("llama.attention.sliding_window", 0)) > 0)
    return HfClass{"MistralForCausalLM", "mistral"};
  return HfClass{"LlamaForCausalLM", "llama"};
}

Status set_config(const ModelFile& model, nlohmann::json& config) {
  const bool plain = config["model_type"] == "llama";
  TRY(put_heads(model, {.n_kv_heads = !plain}, config));
  if (!plain) TRY(put_uint(model, "attention.sliding_window", "sliding_window", config));
  if (plain) config["mlp_bias"] = model.find("blk.0.ffn_down.bias") != nullptr;
  if (config["model_type"] != "mixtral") return {};
  if (!config.contains("rope_theta")) config["rope_theta"] = 10000.0;
  TRY(put_uint(model, "expert_count", "num_local_experts", config));
  return put_uint(model, "expert_used_count", "num_experts_per_tok", config);
}

}  // namespace

extern const HfArchitecture hf_llama;
const HfArchitecture hf_llama{.name = "llama",
                              .classes = kClasses,
                              .prefixes = {},
                              .rules = kRules,
                              .set_metadata = set_metadata,
                              .activation = {.named = true},
                              .model_type = "llama",
                              .class_of = class_of,
                              .set_config = set_config};

}  // namespace venturi
