#include "formats/adapter.h"

#include <filesystem>

#include "formats/byte_cursor.h"
#include "formats/json_text.h"

namespace venturi {

namespace {

constexpr uint64_t kMaxConfigBytes = 1 << 22;

std::string shape_text(const TensorInfo& tensor) {
  std::string text;
  for (const int64_t d : tensor.dims) text += fmt::format("{}{}", text.empty() ? "" : " x ", d);
  return text;
}

Result<AdapterFile> open_peft_adapter(const std::string& folder, const ModelFile& base) {
  const std::string weights = folder + "/adapter_model.safetensors";
  std::error_code ignored;
  if (!std::filesystem::exists(weights, ignored) && std::filesystem::exists(folder + "/adapter_model.bin", ignored))
    return error(Code::kUnsupported, "{} is a pickle, which could run anything; save the adapter as safetensors", folder + "/adapter_model.bin");
  const std::string config = TRY(read_regular_file(folder + "/adapter_config.json", kMaxConfigBytes));
  return read_peft_adapter(config, TRY(File::open(weights)), folder, base);
}

// "blk.0.attn_q.weight.lora_a" without its ending; empty if it has another.
std::string_view weight_of(std::string_view name, std::string_view ending) {
  return name.ends_with(ending) ? name.substr(0, name.size() - ending.size()) : std::string_view();
}

Result<float> alpha_of(const Metadata& metadata, const std::string& architecture) {
  const std::string type = TRY(metadata.string_or("general.type", "model"));
  if (type != "adapter") return error(Code::kUnsupported, "general.type is {}, expected \"adapter\"", shown(type));
  const std::string kind = TRY(metadata.get_string("adapter.type"));
  if (kind != "lora") return error(Code::kUnsupported, "adapter.type is {}; \"lora\" is what can be used", shown(kind));
  if (metadata.contains("adapter.alora.invocation_tokens"))
    return error(Code::kUnsupported, "adapters that begin in the middle of a sequence are not supported");
  const std::string made_for = TRY(metadata.get_string("general.architecture"));
  if (made_for != architecture)
    return error(Code::kUnsupported, "it is for the architecture {}, the base is {}", shown(made_for), shown(architecture));
  const double alpha = TRY(metadata.get_float("adapter.lora.alpha"));
  if (!(alpha >= -1e6 && alpha <= 1e6)) return error(Code::kCorrupt, "adapter.lora.alpha: expected a number up to 1000000");
  return static_cast<float>(alpha);
}

Result<std::vector<AdapterPair>> gguf_pairs(const ModelFile& file, const ModelFile& base) {
  const float alpha = TRY(alpha_of(file.metadata, TRY(base.metadata.get_string("general.architecture"))));
  for (const TensorInfo& tensor : file.tensors)
    if (weight_of(tensor.name, ".lora_a").empty() && weight_of(tensor.name, ".lora_b").empty())
      return error(Code::kUnsupported, "tensor {}: expected the base's name and .lora_a or .lora_b", shown(tensor.name));
  std::vector<AdapterPair> pairs;
  for (const TensorInfo& weight : base.tensors) {
    const TensorInfo *a = file.find(weight.name + ".lora_a"), *b = file.find(weight.name + ".lora_b");
    if (!a && !b) continue;
    if (!a || !b) return error(Code::kCorrupt, "tensor {} has one of .lora_a and .lora_b", shown(weight.name));
    AdapterPair pair{.weight = weight.name, .a = *a, .b = *b};
    TRY(check_adapter_pair(pair, weight.name, base));
    pair.scale = alpha != 0 ? alpha / static_cast<float>(pair.rank()) : 1.0f;
    pairs.push_back(std::move(pair));
  }
  if (pairs.empty() || file.tensors.size() != 2 * pairs.size())
    return error(Code::kUnsupported, "it has tensors that the base {} has not; the adapter belongs to another model", base.path);
  return pairs;
}

}  // namespace

Status check_adapter_pair(const AdapterPair& pair, std::string_view name, const ModelFile& base) {
  const TensorInfo* weight = base.find(pair.weight);
  if (!weight) return error(Code::kUnsupported, "{}: the base {} has no {}", shown(name), base.path, pair.weight);
  if (pair.weight == "token_embd.weight") return error(Code::kUnsupported, "{}: adapters of embeddings are not supported", shown(name));
  if (weight->dims.size() != 2)
    return error(Code::kUnsupported, "{}: {} is no matrix; adapters of stacked experts and vectors are not supported", shown(name), pair.weight);
  if (pair.a.dims.size() != 2 || pair.b.dims.size() != 2)
    return error(Code::kCorrupt, "{}: A and B need two dimensions each", shown(name));
  const int64_t rank = pair.rank();
  if (rank < 1 || rank > kMaxAdapterRank)
    return error(Code::kUnsupported, "{}: its rank is {}; 1 to {} can be used", shown(name), rank, kMaxAdapterRank);
  if (pair.a.dims != std::vector<int64_t>{weight->n_in(), rank} || pair.b.dims != std::vector<int64_t>{rank, weight->n_rows()})
    return error(Code::kUnsupported,
                 "{}: A is {} and B {} (fastest first), but the base's {} is {}: expected {} x {} and {} x {}; the adapter belongs to "
                 "another model",
                 shown(name), shape_text(pair.a), shape_text(pair.b), pair.weight, shape_text(*weight), weight->n_in(), rank, rank,
                 weight->n_rows());
  for (const TensorInfo* part : {&pair.a, &pair.b})
    if (part->dims[0] % part->codec->block_elems != 0)
      return error(Code::kCorrupt, "{}: rows of {} values do not go into blocks of {}", shown(name), part->dims[0], part->codec->name);
  return {};
}

Result<AdapterFile> open_gguf_adapter(const std::string& path, const ModelFile& base) {
  auto file = TRY(open_gguf(path));
  AdapterFile out;
  auto pairs = gguf_pairs(*file, base);
  if (!pairs) return std::move(pairs).error().within(path);
  out.pairs = std::move(*pairs);
  out.stored = std::move(*file);
  return out;
}

Result<AdapterFile> open_adapter(const std::string& path, const ModelFile& base) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) return open_peft_adapter(path, base);
  return open_gguf_adapter(path, base);
}

}  // namespace venturi
