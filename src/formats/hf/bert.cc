// BERT encoders, for embeddings.
#include "formats/hf_architecture.h"
#include "formats/json_text.h"

namespace venturi {

namespace {

constexpr std::string_view kClasses[] = {"BertModel", "BertForMaskedLM", "BertForPreTraining"};

constexpr HfPrefix kPrefixes[] = {{"bert.", ""}};

constexpr HfRule kRules[] = {
    {"embeddings.word_embeddings.weight", "token_embd.weight"},
    {"embeddings.position_embeddings.weight", "position_embd.weight"},
    {"embeddings.token_type_embeddings.weight", "token_types.weight"},
    {"embeddings.LayerNorm.*", "token_embd_norm.*"},
    {"encoder.layer.{}.attention.self.query.*", "blk.{}.attn_q.*"},
    {"encoder.layer.{}.attention.self.key.*", "blk.{}.attn_k.*"},
    {"encoder.layer.{}.attention.self.value.*", "blk.{}.attn_v.*"},
    {"encoder.layer.{}.attention.output.dense.*", "blk.{}.attn_output.*"},
    {"encoder.layer.{}.attention.output.LayerNorm.*", "blk.{}.attn_output_norm.*"},
    {"encoder.layer.{}.intermediate.dense.*", "blk.{}.ffn_up.*"},
    {"encoder.layer.{}.output.dense.*", "blk.{}.ffn_down.*"},
    {"encoder.layer.{}.output.LayerNorm.*", "blk.{}.layer_output_norm.*"},
    {"embeddings.position_ids", ""},
    {"pooler.**", ""},
    {"cls.**", ""},
};

// Pooling types as GGUF numbers them.
constexpr uint64_t kMeanPooling = 1, kClsPooling = 2;

// sentence-transformers keep the kind of pooling in a folder of its own.
Status set_pooling(const HfConfig& config, Metadata& metadata) {
  const std::string folder = config.path().substr(0, config.path().rfind('/') + 1);
  auto file = read_json_file(folder + "1_Pooling/config.json", 1 << 20);
  if (!file.ok() && file.error().code == Code::kNotFound) return {};
  if (!file.ok()) return std::move(file).error();
  const HfConfig pooling(std::move(*file), folder + "1_Pooling/config.json");
  if (TRY(pooling.flag({"pooling_mode_mean_tokens"})).value_or(false))
    metadata.set_uint("bert.pooling_type", kMeanPooling);
  else if (TRY(pooling.flag({"pooling_mode_cls_token"})).value_or(false))
    metadata.set_uint("bert.pooling_type", kClsPooling);
  else
    return error(Code::kUnsupported, "{}: known poolings are mean and cls", pooling.path());
  return {};
}

Status set_metadata(const HfConfig& config, Metadata& metadata) {
  metadata.set_bool("bert.attention.causal", false);
  metadata.set_uint("tokenizer.ggml.token_type_count",
                    TRY(config.uint({"type_vocab_size"})).value_or(2));
  if (!metadata.contains("bert.attention.layer_norm_epsilon"))
    metadata.set_float("bert.attention.layer_norm_epsilon", 1e-12f);
  return set_pooling(config, metadata);
}

}  // namespace

extern const HfArchitecture hf_bert;
const HfArchitecture hf_bert{.name = "bert",
                             .classes = kClasses,
                             .prefixes = kPrefixes,
                             .rules = kRules,
                             .set_metadata = set_metadata,
                             .activation = {.usual = "gelu"}};

}  // namespace venturi
