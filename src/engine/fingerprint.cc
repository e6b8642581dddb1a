#include "engine/fingerprint.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <bit>

namespace venturi {

namespace {

constexpr uint64_t kSampleBytes = 4096;  // from the beginning, the middle and the end of a tensor

class Hash {
 public:
  Hash() { XXH3_64bits_reset(&state_); }
  void add(std::span<const uint8_t> bytes) { XXH3_64bits_update(&state_, bytes.data(), bytes.size()); }
  void add(std::string_view text) {
    add(static_cast<int64_t>(text.size()));
    XXH3_64bits_update(&state_, text.data(), text.size());
  }
  void add(int64_t number) { XXH3_64bits_update(&state_, &number, sizeof number); }
  uint64_t value() const { return XXH3_64bits_digest(&state_); }

 private:
  XXH3_state_t state_;
};

Status add_tensor(Hash& hash, const ModelFile& file, const TensorInfo& tensor) {
  hash.add(tensor.name);
  hash.add(tensor.codec->name);
  for (const int64_t dim : tensor.dims) hash.add(dim);
  const uint64_t bytes = tensor.bytes(), n = std::min(bytes, kSampleBytes);
  std::vector<uint8_t> sample(n);
  for (const uint64_t begin : {uint64_t{0}, (bytes - n) / 2, bytes - n}) {
    TRY(file.read(tensor, begin, sample));
    hash.add(std::span<const uint8_t>(sample));
  }
  return {};
}

}  // namespace

Result<uint64_t> state_fingerprint(const Engine& engine, const Adapter* adapter) {
  const ModelFile& file = engine.file();
  Hash hash;
  const std::string& architecture = engine.info().architecture;
  hash.add(architecture);
  for (const TensorInfo& tensor : file.tensors) TRY(add_tensor(hash, file, tensor));
  if (adapter) {
    hash.add(std::string_view("adapter"));
    hash.add(std::bit_cast<int32_t>(adapter->scale()));
    for (const AdapterPair& pair : adapter->file().pairs) {
      hash.add(pair.weight);
      hash.add(std::bit_cast<int32_t>(pair.scale));
      for (const TensorInfo* tensor : {&pair.a, &pair.b}) TRY(add_tensor(hash, adapter->file().stored, *tensor));
    }
  }
  // Some scalings of RoPE are fixed by the context that a model is opened with.
  if (file.metadata.contains(architecture + ".rope.scaling.type")) hash.add(engine.options().context);
  return hash.value();
}

}  // namespace venturi
