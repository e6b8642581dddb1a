// Any bytes as config.json, tokenizer.json and model.safetensors of a Hugging Face directory: an error, or a model
// whose every tensor can be read.
#include <vector>

#include "base/log.h"
#include "formats/model_file.h"
#include "memory_folder.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace venturi;
  spdlog::set_level(spdlog::level::off);
  MemoryFolder folder;
  folder.write({"config.json", "tokenizer.json", "model.safetensors"}, data, size);
  const auto model = open_hf_directory(folder.path());
  if (!model.ok()) return 0;
  for (const TensorInfo& tensor : (*model)->tensors) {
    std::vector<float> row(static_cast<size_t>(tensor.n_in()));
    if (!(*model)->read_row_f32(tensor, tensor.n_rows() - 1, row).ok()) std::abort();
  }
  return 0;
}
