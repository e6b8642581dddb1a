// Any bytes as a GGUF file: opening gives an error or a model whose every key and row can be read.
#include <vector>

#include "formats/gguf.h"
#include "memory_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace venturi;
  static MemoryFile file;
  file.assign(data, size);
  auto model = open_gguf(file.path());
  if (!model.ok()) return 0;
  const Metadata& metadata = (*model)->metadata;
  for (const auto& [key, value] : metadata.entries()) {
    (void)metadata.get_uint(key).ok();
    (void)metadata.get_int(key).ok();
    (void)metadata.get_float(key).ok();
    (void)metadata.get_string(key).ok();
    (void)metadata.get_ints(key).ok();
    (void)metadata.get_floats(key).ok();
    if (auto strings = metadata.get_strings(key); strings.ok())
      for (const std::string_view text : *strings)
        if (!text.empty() && text.data() == nullptr) std::abort();
  }
  for (const TensorInfo& tensor : (*model)->tensors) {
    std::vector<float> row(static_cast<size_t>(tensor.n_in()));
    // Every tensor lies inside the file, so its last row must be readable.
    if (!(*model)->read_row_f32(tensor, tensor.n_rows() - 1, row).ok()) std::abort();
  }
  return 0;
}
