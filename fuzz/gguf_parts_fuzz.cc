// Any bytes as the two parts of a split GGUF model: an error, or a model whose every tensor can be read.
#include <vector>

#include "formats/model_file.h"
#include "memory_folder.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace venturi;
  MemoryFolder folder;
  folder.write({"m-00001-of-00002.gguf", "m-00002-of-00002.gguf"}, data, size);
  for (const char* part : {"/m-00001-of-00002.gguf", "/m-00002-of-00002.gguf"}) {
    const auto model = open_gguf(folder.path() + part);
    if (!model.ok()) continue;
    if ((*model)->by_name.size() != (*model)->tensors.size()) std::abort();
    for (const TensorInfo& tensor : (*model)->tensors) {
      std::vector<float> row(static_cast<size_t>(tensor.n_in()));
      if (!(*model)->read_row_f32(tensor, tensor.n_rows() - 1, row).ok()) std::abort();
    }
  }
  return 0;
}
