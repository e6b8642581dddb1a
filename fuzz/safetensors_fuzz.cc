// Any bytes as a safetensors file: an error, or tensors that lie inside it, side by side.
#include "formats/safetensors.h"
#include "memory_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace venturi;
  static MemoryFile memory;
  memory.assign(data, size);
  auto file = File::open(memory.path());
  if (!file.ok()) std::abort();
  const auto header = read_safetensors_header(*file);
  if (!header.ok()) return 0;
  uint64_t end = 0;
  for (const SafeTensor& tensor : header->tensors) {
    if (end != 0 && tensor.offset != end) std::abort();
    end = tensor.offset + tensor.bytes;
    if (end > size) std::abort();
  }
  return 0;
}
