// GPT-2. Its linear weights are stored transposed, its output is its embedding unless
// the config says otherwise.
#include "base/checked.h"
#include "formats/hf_config_write.h"

namespace venturi {

namespace {

constexpr std::string_view kClasses[] = {"GPT2LMHeadModel", "GPT2Model"};

constexpr HfPrefix kPrefixes[] = {{"transformer.", ""}};

constexpr HfRule kRules[] = {
    {"wte.weight", "token_embd.weight"},
    {"wpe.weight", "position_embd.weight"},
    {"ln_f.*", "output_norm.*"},
    {"h.{}.ln_1.*", "blk.{}.attn_norm.*"},
    {"h.{}.attn.c_attn.*", "blk.{}.attn_qkv.*", HfTransform::kTransposed},
    {"h.{}.attn.c_proj.*", "blk.{}.attn_output.*", HfTransform::kTransposed},
    {"h.{}.ln_2.*", "blk.{}.ffn_norm.*"},
    {"h.{}.mlp.c_fc.*", "blk.{}.ffn_up.*", HfTransform::kTransposed},
    {"h.{}.mlp.c_proj.*", "blk.{}.ffn_down.*", HfTransform::kTransposed},
    {"h.{}.attn.bias", ""},
    {"h.{}.attn.masked_bias", ""},
    {"lm_head.weight", "output.weight"},
};

Status set_metadata(const HfConfig& config, Metadata& metadata) {
  if (!metadata.contains("gpt2.feed_forward_length")) {
    const auto width = checked_mul(4, TRY(config.need_uint({"n_embd"})));
    if (!width) return error(Code::kCorrupt, "{}: field 'n_embd' is too large", config.path());
    metadata.set_uint("gpt2.feed_forward_length", *width);
  }
  if (!metadata.contains("gpt2.attention.layer_norm_epsilon"))
    metadata.set_float("gpt2.attention.layer_norm_epsilon", 1e-5f);
  return {};
}

Status set_config(const ModelFile& model, nlohmann::json& config) {
  for (const auto& [from, to] :
       {std::pair("hidden_size", "n_embd"), std::pair("num_hidden_layers", "n_layer"),
        std::pair("num_attention_heads", "n_head"), std::pair("intermediate_size", "n_inner"),
        std::pair("max_position_embeddings", "n_positions")})
    rename_field(config, from, to);
  return put_number(model, "attention.layer_norm_epsilon", "layer_norm_epsilon", config);
}

}  // namespace

extern const HfArchitecture hf_gpt2;
const HfArchitecture hf_gpt2{.name = "gpt2",
                             .classes = kClasses,
                             .prefixes = kPrefixes,
                             .rules = kRules,
                             .set_metadata = set_metadata,
                             .activation = {"activation_function", "gelu_pytorch_tanh", true},
                             .tied_by_default = true,
                             .model_type = "gpt2",
                             .set_config = set_config,
                             .own_prefix = "transformer."};

}  // namespace venturi
