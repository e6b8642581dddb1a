// Gemma 2. Its norms are stored less 1, its output is its embedding.
#include <cmath>

#include "formats/hf_config_write.h"

namespace venturi {

namespace {

constexpr std::string_view kClasses[] = {"Gemma2ForCausalLM"};

constexpr HfRule kRules[] = {
    {"model.embed_tokens.weight", "token_embd.weight"},
    {"model.norm.weight", "output_norm.weight", HfTransform::kAddOne},
    {"lm_head.weight", "output.weight"},
    {"model.layers.{}.input_layernorm.weight", "blk.{}.attn_norm.weight", HfTransform::kAddOne},
    {"model.layers.{}.post_attention_layernorm.weight", "blk.{}.post_attention_norm.weight",
     HfTransform::kAddOne},
    {"model.layers.{}.pre_feedforward_layernorm.weight", "blk.{}.ffn_norm.weight",
     HfTransform::kAddOne},
    {"model.layers.{}.post_feedforward_layernorm.weight", "blk.{}.post_ffw_norm.weight",
     HfTransform::kAddOne},
    {"model.layers.{}.self_attn.q_proj.*", "blk.{}.attn_q.*"},
    {"model.layers.{}.self_attn.k_proj.*", "blk.{}.attn_k.*"},
    {"model.layers.{}.self_attn.v_proj.*", "blk.{}.attn_v.*"},
    {"model.layers.{}.self_attn.o_proj.*", "blk.{}.attn_output.*"},
    {"model.layers.{}.mlp.gate_proj.*", "blk.{}.ffn_gate.*"},
    {"model.layers.{}.mlp.up_proj.*", "blk.{}.ffn_up.*"},
    {"model.layers.{}.mlp.down_proj.*", "blk.{}.ffn_down.*"},
};

Status set_metadata(const HfConfig& config, Metadata& metadata) {
  TRY(copy_number(config, "attn_logit_softcapping", "attn_logit_softcapping", metadata));
  TRY(copy_number(config, "final_logit_softcapping", "final_logit_softcapping", metadata));
  TRY(copy_uint(config, "sliding_window", "attention.sliding_window", metadata));
  const uint64_t head_dim = TRY(config.need_uint({"head_dim"}));
  const double scalar =
      TRY(config.number({"query_pre_attn_scalar"})).value_or(static_cast<double>(head_dim));
  if (scalar <= 0)
    return error(Code::kCorrupt, "{}: query_pre_attn_scalar is not positive", config.path());
  // Queries are scaled by the head size unless the config says otherwise, as in the 27B model.
  if (scalar != static_cast<double>(head_dim))
    metadata.set_float("gemma2.attention.scale", static_cast<float>(1 / std::sqrt(scalar)));
  return {};
}

Status set_config(const ModelFile& model, nlohmann::json& config) {
  TRY(put_heads(model, {.size = true, .n_kv_heads = true}, config));
  TRY(put_number(model, "attn_logit_softcapping", "attn_logit_softcapping", config));
  TRY(put_number(model, "final_logit_softcapping", "final_logit_softcapping", config));
  TRY(put_uint(model, "attention.sliding_window", "sliding_window", config));
  return put_query_scalar(model, 46, config);
}

}  // namespace

extern const HfArchitecture hf_gemma2;
const HfArchitecture hf_gemma2{.name = "gemma2",
                               .classes = kClasses,
                               .prefixes = {},
                               .rules = kRules,
                               .set_metadata = set_metadata,
                               .activation = {"hidden_activation", "gelu_pytorch_tanh"},
                               .tied_by_default = true,
                               .model_type = "gemma2",
                               .set_config = set_config};

}  // namespace venturi
