// Gemma 3, the text part.
#include <cmath>

#include "formats/hf_config_write.h"

namespace venturi {

namespace {

constexpr std::string_view kClasses[] = {"Gemma3ForCausalLM", "Gemma3ForConditionalGeneration"};

constexpr HfPrefix kPrefixes[] = {{"language_model.", ""}, {"model.language_model.", "model."}};

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
    {"model.layers.{}.self_attn.q_norm.weight", "blk.{}.attn_q_norm.weight", HfTransform::kAddOne},
    {"model.layers.{}.self_attn.k_norm.weight", "blk.{}.attn_k_norm.weight", HfTransform::kAddOne},
    {"model.layers.{}.mlp.gate_proj.*", "blk.{}.ffn_gate.*"},
    {"model.layers.{}.mlp.up_proj.*", "blk.{}.ffn_up.*"},
    {"model.layers.{}.mlp.down_proj.*", "blk.{}.ffn_down.*"},
    {"vision_tower.**", ""},
    {"multi_modal_projector.**", ""},
    {"model.vision_tower.**", ""},
    {"model.multi_modal_projector.**", ""},
};

// What transformers leaves out of a config when it is the class's default.
void set_default_uint(Metadata& metadata, std::string_view name, uint64_t value) {
  const std::string key = arch_key(metadata, name);
  if (!metadata.contains(key)) metadata.set_uint(key, value);
}

void set_default_float(Metadata& metadata, std::string_view name, float value) {
  const std::string key = arch_key(metadata, name);
  if (!metadata.contains(key)) metadata.set_float(key, value);
}

Status set_metadata(const HfConfig& config, Metadata& metadata) {
  TRY(copy_uint(config, "sliding_window", "attention.sliding_window", metadata));
  TRY(copy_uint(config, "sliding_window_pattern", "attention.sliding_window_pattern", metadata));
  TRY(copy_uint(config, "_sliding_window_pattern", "attention.sliding_window_pattern", metadata));
  TRY(copy_number(config, "rope_local_base_freq", "rope.freq_base_swa", metadata));
  TRY(copy_number(config, "final_logit_softcapping", "final_logit_softcapping", metadata));
  set_default_uint(metadata, "context_length", 131072);
  set_default_uint(metadata, "attention.head_count", 8);
  set_default_uint(metadata, "attention.head_count_kv", 4);
  set_default_uint(metadata, "attention.key_length", 256);
  set_default_uint(metadata, "attention.value_length", 256);
  set_default_uint(metadata, "attention.sliding_window", 4096);
  set_default_uint(metadata, "attention.sliding_window_pattern", 6);
  set_default_float(metadata, "attention.layer_norm_rms_epsilon", 1e-6f);
  set_default_float(metadata, "rope.freq_base", 1e6f);
  set_default_float(metadata, "rope.freq_base_swa", 1e4f);
  const double head_dim = TRY(metadata.get_float("gemma3.attention.key_length"));
  const double scalar = TRY(config.number({"query_pre_attn_scalar"})).value_or(256);
  if (scalar <= 0)
    return error(Code::kCorrupt, "{}: query_pre_attn_scalar is not positive", config.path());
  if (scalar != head_dim)
    metadata.set_float("gemma3.attention.scale", static_cast<float>(1 / std::sqrt(scalar)));
  return {};
}

Status set_config(const ModelFile& model, nlohmann::json& config) {
  TRY(put_heads(model, {.size = true, .n_kv_heads = true}, config));
  TRY(put_uint(model, "attention.sliding_window", "sliding_window", config));
  TRY(put_number(model, "final_logit_softcapping", "final_logit_softcapping", config));
  const Metadata& metadata = model.metadata;
  config["sliding_window_pattern"] =
      TRY(metadata.uint_or("gemma3.attention.sliding_window_pattern", 6));
  config["rope_local_base_freq"] =
      shortest(TRY(metadata.float_or("gemma3.rope.freq_base_swa", 1e4)));
  if (!config.contains("rope_theta")) config["rope_theta"] = 10000.0;  // what GGUF means by none
  return put_query_scalar(model, 62, config);
}

}  // namespace

extern const HfArchitecture hf_gemma3;
const HfArchitecture hf_gemma3{.name = "gemma3",
                               .classes = kClasses,
                               .prefixes = kPrefixes,
                               .rules = kRules,
                               .set_metadata = set_metadata,
                               .nested_config = "text_config",
                               .activation = {"hidden_activation", "gelu_pytorch_tanh"},
                               .tied_by_default = true,
                               .model_type = "gemma3_text",
                               .set_config = set_config};

}  // namespace venturi
