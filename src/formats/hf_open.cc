// Opening a Hugging Face directory: config.json says the family, safetensors hold the weights, and
// both are read into GGUF's names.
#include <filesystem>

#include "formats/byte_cursor.h"
#include "formats/hf_architecture.h"
#include "formats/hf_tensors.h"
#include "formats/hf_vocabulary.h"
#include "formats/json_text.h"
#include "formats/safetensors.h"

namespace venturi {

namespace {

constexpr uint64_t kMaxConfigBytes = 1 << 24;

Result<const HfArchitecture*> family_of(const HfConfig& config) {
  const nlohmann::json* list = config.find("architectures");
  std::string named;
  if (list && list->is_array())
    for (const nlohmann::json& entry : *list) {
      if (!entry.is_string()) continue;
      named = entry.get<std::string>();
      if (const HfArchitecture* found = find_hf_architecture(named)) return found;
    }
  std::string known;
  for (const HfArchitecture* architecture : all_hf_architectures())
    known.append(known.empty() ? "" : ", ").append(architecture->classes[0]);
  if (named.empty())
    return error(Code::kCorrupt, "{}: field 'architectures': expected a list of names such as {}",
                 config.path(), known);
  return error(Code::kUnsupported, "{}: the architecture {} is not known; known are {}",
               config.path(), shown(named), known);
}

// The part of the config that describes the text model.
Result<HfConfig> text_config(const HfConfig& config, const HfArchitecture& family) {
  if (family.nested_config.empty() || !config.find(family.nested_config)) return config;
  return config.object(family.nested_config);
}

// Sampling that the model's makers recommend.
Status set_sampling(const std::string& folder, Metadata& metadata) {
  const std::string path = folder + "/generation_config.json";
  auto file = read_json_file(path, kMaxConfigBytes);
  if (!file.ok() && file.error().code == Code::kNotFound) return {};
  if (!file.ok()) return std::move(file).error();
  const HfConfig config(std::move(*file), path);
  for (const auto& [field, key] :
       {std::pair("temperature", "temp"), std::pair("top_p", "top_p"), std::pair("min_p", "min_p")})
    if (const auto value = TRY(config.number({field})))
      metadata.set_float(fmt::format("general.sampling.{}", key), static_cast<float>(*value));
  if (const auto value = TRY(config.uint({"top_k"})))
    metadata.set_uint("general.sampling.top_k", *value);
  return {};
}

std::string folder_name(const std::string& path) {
  const auto absolute = std::filesystem::absolute(path).lexically_normal();
  return (absolute.has_filename() ? absolute.filename() : absolute.parent_path().filename())
      .string();
}

// What the config says of weights against the weights that are there.
Status check_weights(const HfConfig& config, const ModelFile& model, const TensorInfo& embedding) {
  const auto vocabulary = TRY(config.uint({"vocab_size"}));
  const auto rows = static_cast<uint64_t>(embedding.n_rows());  // may be padded
  if (vocabulary && (*vocabulary == 0 || *vocabulary > rows))
    return error(Code::kCorrupt, "{}: field 'vocab_size' is {}, but the token embedding has {} rows", config.path(),
                 *vocabulary, rows);
  const auto tied = TRY(config.flag({"tie_word_embeddings"}));
  if (tied && !*tied && !model.find("output.weight") && model.find("output_norm.weight"))
    return error(Code::kCorrupt, "{}: 'tie_word_embeddings' is false, but the safetensors have no lm_head.weight",
                 config.path());
  const auto biased = TRY(config.flag({"attention_bias"}));
  if (biased && *biased && model.find("blk.0.attn_q.weight") && !model.find("blk.0.attn_q.bias"))
    return error(Code::kCorrupt, "{}: 'attention_bias' is true, but the safetensors have no biases of the attention",
                 config.path());
  return {};
}

}  // namespace

Result<std::unique_ptr<ModelFile>> open_hf_directory(const std::string& path) {
  const std::string config_path = path + "/config.json";
  const HfConfig whole(TRY(read_json_file(config_path, kMaxConfigBytes)), config_path);
  const HfArchitecture& family = *TRY(family_of(whole));
  const HfConfig config = TRY(text_config(whole, family));

  auto model = std::make_unique<ModelFile>();
  model->path = path;
  TRY(set_common_metadata(config, family.name, model->metadata));
  model->metadata.set_string("general.name", folder_name(path));
  TRY(set_activation(config, family.activation, model->metadata));
  TRY(family.set_metadata(config, model->metadata));
  TRY(set_sampling(path, model->metadata));

  SafetensorsModel stored = TRY(open_safetensors_folder(path));
  model->files = std::move(stored.files);
  auto mapped = map_hf_tensors(family, config, stored.tensors, *model);
  if (!mapped.ok()) {
    Error failure = std::move(mapped).error();
    return failure.message.starts_with(path) ? std::move(failure) : std::move(failure).within(path);
  }
  const TensorInfo* embedding = model->find("token_embd.weight");
  if (!embedding || embedding->dims.size() != 2)
    return error(Code::kCorrupt, "{}: the safetensors hold no token embedding of two dimensions",
                 path);
  TRY(check_weights(config, *model, *embedding));
  TRY(set_hf_vocabulary(path, whole, static_cast<uint64_t>(embedding->n_rows()), model->metadata));
  return model;
}

}  // namespace venturi
