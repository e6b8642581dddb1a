// Any bytes as an adapter in peft's layout (two bytes of length, adapter_config.json, then the
// safetensors file): an error, or pairs that fit the base and lie inside the file.
#include "formats/adapter.h"

#include <cmath>

#include "memory_file.h"

namespace {

venturi::ModelFile make_base() {
  using namespace venturi;
  ModelFile base;
  base.path = "base";
  base.metadata.set_string("general.architecture", "llama");
  base.metadata.set_uint("llama.attention.head_count", 4);
  base.metadata.set_uint("llama.attention.head_count_kv", 2);
  const auto add = [&](std::string name, std::vector<int64_t> dims) {
    base.by_name.emplace(name, base.tensors.size());
    base.tensors.push_back({.name = std::move(name), .codec = find_codec("F32"), .dims = std::move(dims), .segments = {}});
  };
  for (const char* block : {"blk.0.", "blk.1."}) {
    add(std::string(block) + "attn_q.weight", {12, 16});
    add(std::string(block) + "attn_k.weight", {12, 8});
    add(std::string(block) + "ffn_down.weight", {20, 12});
    add(std::string(block) + "ffn_down_exps.weight", {20, 12, 3});
    add(std::string(block) + "attn_norm.weight", {12});
  }
  return base;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace venturi;
  static const ModelFile base = make_base();
  static MemoryFile memory;
  if (size < 2) return 0;
  const size_t length = std::min<size_t>(data[0] | data[1] << 8, size - 2);
  const std::string_view config(reinterpret_cast<const char*>(data + 2), length);
  memory.assign(data + 2 + length, size - 2 - length);
  auto file = File::open(memory.path());
  if (!file.ok()) std::abort();
  const auto adapter = read_peft_adapter(config, std::move(*file), "folder", base);
  if (!adapter.ok()) return 0;
  for (const AdapterPair& pair : adapter->pairs) {
    if (pair.rank() < 1 || pair.rank() > kMaxAdapterRank || !std::isfinite(pair.scale)) std::abort();
    for (const TensorInfo* tensor : {&pair.a, &pair.b}) {
      std::vector<float> values(static_cast<size_t>(tensor->n_values()));
      if (!adapter->stored.read_rows_f32(*tensor, 0, values)) std::abort();
    }
  }
  return 0;
}
