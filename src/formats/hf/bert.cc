// BERT encoders, for embeddings.
#include "formats/hf_config_write.h"
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
struct PoolingName {
  uint64_t gguf;
  const char* hf;
};
constexpr PoolingName kPoolings[] = {
    {1, "pooling_mode_mean_tokens"}, {2, "pooling_mode_cls_token"}, {3, "pooling_mode_lasttoken"}};
constexpr std::string_view kPoolingPath = "1_Pooling/config.json";

// sentence-transformers keep the kind of pooling in a folder of its own.
Status set_pooling(const HfConfig& config, Metadata& metadata) {
  std::string folder = config.path().substr(0, config.path().rfind('/') + 1);
  const std::string path = folder.append(kPoolingPath);
  auto file = read_json_file(path, 1 << 20);
  if (!file.ok() && file.error().code == Code::kNotFound) return {};
  if (!file.ok()) return std::move(file).error();
  const HfConfig pooling(std::move(*file), path);
  for (const PoolingName& known : kPoolings)
    if (TRY(pooling.flag({known.hf})).value_or(false)) {
      metadata.set_uint("bert.pooling_type", known.gguf);
      return {};
    }
  return error(Code::kUnsupported, "{}: known poolings are mean, cls and last token",
               pooling.path());
}

Status set_metadata(const HfConfig& config, Metadata& metadata) {
  metadata.set_bool("bert.attention.causal", false);
  metadata.set_uint("tokenizer.ggml.token_type_count",
                    TRY(config.uint({"type_vocab_size"})).value_or(2));
  if (!metadata.contains("bert.attention.layer_norm_epsilon"))
    metadata.set_float("bert.attention.layer_norm_epsilon", 1e-12f);
  return set_pooling(config, metadata);
}

Status set_config(const ModelFile& model, nlohmann::json& config) {
  TRY(put_number(model, "attention.layer_norm_epsilon", "layer_norm_eps", config));
  if (const TensorInfo* types = model.find("token_types.weight"))
    config["type_vocab_size"] = types->n_rows();
  config["position_embedding_type"] = "absolute";
  return {};
}

// As sentence-transformers lays a directory out.
Result<std::vector<HfFile>> more_files(const Metadata& metadata) {
  std::vector<HfFile> files;
  const uint64_t pooling = TRY(metadata.uint_or("bert.pooling_type", 0));
  if (pooling == 0) return files;
  nlohmann::json config;
  config["word_embedding_dimension"] = TRY(metadata.get_uint("bert.embedding_length"));
  for (const PoolingName& known : kPoolings) config[known.hf] = known.gguf == pooling;
  files.push_back({std::string(kPoolingPath), std::move(config)});
  const auto module = [](int number, const char* path, const char* kind) {
    return nlohmann::json{{"idx", number},
                          {"name", std::to_string(number)},
                          {"path", path},
                          {"type", fmt::format("sentence_transformers.models.{}", kind)}};
  };
  files.push_back({"modules.json", nlohmann::json::array({module(0, "", "Transformer"),
                                                          module(1, "1_Pooling", "Pooling")})});
  return files;
}

}  // namespace

extern const HfArchitecture hf_bert;
const HfArchitecture hf_bert{.name = "bert",
                             .classes = kClasses,
                             .prefixes = kPrefixes,
                             .rules = kRules,
                             .set_metadata = set_metadata,
                             .activation = {.usual = "gelu"},
                             .model_type = "bert",
                             .set_config = set_config,
                             .more_files = more_files};

}  // namespace venturi
