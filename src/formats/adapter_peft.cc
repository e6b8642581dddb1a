// An adapter in peft's layout: adapter_config.json, adapter_model.safetensors.
#include <filesystem>
#include <map>

#include "formats/adapter.h"
#include "formats/byte_cursor.h"
#include "formats/hf_tensors.h"
#include "formats/json_text.h"
#include "formats/peft_config.h"

namespace venturi {

namespace {

constexpr std::string_view kPrefix = "base_model.model.";
constexpr std::string_view kA = ".lora_A.weight", kB = ".lora_B.weight";

struct Part {
  const SafeTensor *a = nullptr, *b = nullptr;
};

// What a name ends with that is no part of a pair, and why it is refused.
struct Ending {
  std::string_view text, why;
};
constexpr Ending kEndings[] = {
    {".lora_magnitude_vector", "DoRA is not supported"},
    {".lora_magnitude_vector.weight", "DoRA is not supported"},
    {".lora_embedding_A", "adapters of embeddings are not supported"},
    {".lora_embedding_B", "adapters of embeddings are not supported"},
    {".lora_B.bias", "biases of its own are not supported"},
};

// Modules ("model.layers.0.self_attn.q_proj") and their tensors.
Result<std::map<std::string, Part>> find_parts(const std::vector<SafeTensor>& tensors) {
  std::map<std::string, Part> parts;
  for (const SafeTensor& tensor : tensors) {
    const std::string_view name = tensor.name;
    for (const Ending& ending : kEndings)
      if (name.ends_with(ending.text)) return error(Code::kUnsupported, "tensor {}: {}", shown(name), ending.why);
    const bool is_a = name.ends_with(kA);
    if (!name.starts_with(kPrefix) || (!is_a && !name.ends_with(kB)) || name.size() <= kPrefix.size() + kA.size())
      return error(Code::kUnsupported, "tensor {}: expected {}MODULE{} or {}; whole modules and other parts are not supported",
                   shown(name), kPrefix, kA, kB);
    Part& part = parts[std::string(name.substr(kPrefix.size(), name.size() - kPrefix.size() - kA.size()))];
    (is_a ? part.a : part.b) = &tensor;
  }
  return parts;
}

// What a module's weight is called in the base, whose families may share a name.
Result<HfMatch> find_weight(std::string_view module, const ModelFile& base) {
  const std::string architecture = TRY(base.metadata.get_string("general.architecture"));
  bool known = false;
  for (const HfArchitecture* family : all_hf_architectures()) {
    if (family->name != architecture) continue;
    known = true;
    HfMatch match = match_hf_name(*family, std::string(module) + ".weight");
    if (match.rule && base.find(match.gguf)) return match;
  }
  if (!known)
    return error(Code::kUnsupported, "how peft calls the tensors of the architecture {} is not known here", shown(architecture));
  return error(Code::kUnsupported, "module {} is none that the base {} has; the adapter belongs to another model", shown(module),
               base.path);
}

Result<TensorInfo> tensor_of(const SafeTensor& stored) {
  TensorInfo tensor;
  tensor.name = stored.name;
  const bool known = stored.dtype == "F32" || stored.dtype == "F16" || stored.dtype == "BF16";
  tensor.codec = known ? find_codec(stored.dtype) : nullptr;
  if (!tensor.codec)
    return error(Code::kUnsupported, "tensor {}: its dtype is {}; F32, F16 and BF16 can be read", shown(stored.name), shown(stored.dtype));
  if (stored.shape.size() != 2)
    return error(Code::kCorrupt, "tensor {}: it has {} dimensions, expected 2", shown(stored.name), stored.shape.size());
  tensor.dims = {stored.shape[1], stored.shape[0]};
  tensor.segments = {{stored.file, stored.offset, stored.bytes}};
  return tensor;
}

Result<AdapterPair> make_pair(const std::string& module, const Part& part, const PeftConfig& config, const ModelFile& base) {
  if (!part.a || !part.b)
    return error(Code::kCorrupt, "module {} has {}, but no {}; the file is incomplete", shown(module), part.a ? "lora_A" : "lora_B",
                 part.a ? "lora_B" : "lora_A");
  if (!TRY(config.adapts(module)))
    return error(Code::kCorrupt, "there are tensors of module {}, which 'target_modules' does not name", shown(module));
  const HfMatch match = TRY(find_weight(module, base));
  if (match.expert >= 0)
    return error(Code::kUnsupported, "module {}: adapters of single experts are not supported", shown(module));
  AdapterPair pair;
  pair.weight = match.gguf;
  pair.a = TRY(tensor_of(*part.a));
  pair.b = TRY(tensor_of(*part.b));
  TRY(check_adapter_pair(pair, module, base));
  if (const int64_t rank = TRY(config.rank_of(module)); rank != pair.rank())
    return error(Code::kCorrupt, "module {}: the configuration says rank {}, the tensors have {}", shown(module), rank, pair.rank());
  pair.scale = TRY(config.scale_of(module));
  switch (match.rule->transform) {
    case HfTransform::kNone:
    case HfTransform::kTransposed:  // of the stored weight; B's rows are its outputs either way
      break;
    case HfTransform::kRopeQuery:
    case HfTransform::kRopeKey:
      pair.b.rope_heads = TRY(rope_heads(base.metadata, match.rule->transform, static_cast<uint64_t>(pair.b.n_rows()), pair.weight));
      break;
    default:
      return error(Code::kUnsupported, "module {}: its weight is changed on loading and cannot be adapted", shown(module));
  }
  return pair;
}

Result<std::vector<AdapterPair>> make_pairs(const PeftConfig& config, const std::vector<SafeTensor>& tensors, const ModelFile& base) {
  std::map<size_t, AdapterPair> pairs;  // by the base's tensor
  for (const auto& [module, part] : TRY(find_parts(tensors))) {
    AdapterPair pair = TRY(make_pair(module, part, config, base));
    const size_t index = base.by_name.at(pair.weight);
    if (!pairs.emplace(index, std::move(pair)).second)
      return error(Code::kCorrupt, "module {} and another are the same weight of the base", shown(module));
  }
  if (pairs.empty()) return error(Code::kCorrupt, "there is no tensor in it");
  std::vector<AdapterPair> out;
  for (auto& [index, pair] : pairs) out.push_back(std::move(pair));
  return out;
}

}  // namespace

Result<AdapterFile> read_peft_adapter(std::string_view config_text, File weights, const std::string& folder, const ModelFile& base) {
  const PeftConfig config = TRY(parse_peft_config(config_text, folder + "/adapter_config.json"));
  AdapterFile out;
  out.stored.path = folder;
  const std::string path = weights.path();
  const SafetensorsHeader header = TRY(read_safetensors_header(weights));
  auto pairs = make_pairs(config, header.tensors, base);
  if (!pairs) return std::move(pairs).error().within(path);
  out.pairs = std::move(*pairs);
  out.stored.files.push_back(std::move(weights));
  return out;
}

}  // namespace venturi
