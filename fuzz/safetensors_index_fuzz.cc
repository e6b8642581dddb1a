// Any bytes as model.safetensors.index.json and two files beside it: an error, or tensors that lie inside the files
// that were opened, each name once.
#include <set>

#include "formats/safetensors.h"
#include "memory_folder.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace venturi;
  MemoryFolder folder;
  folder.write({"model.safetensors.index.json", "a.safetensors", "b.safetensors"}, data, size);
  const auto model = open_safetensors_folder(folder.path());
  if (!model.ok()) return 0;
  std::set<std::string> names;
  for (const SafeTensor& tensor : model->tensors) {
    if (!names.insert(tensor.name).second) std::abort();
    const uint64_t file = model->files.at(static_cast<size_t>(tensor.file)).size();
    if (tensor.offset > file || tensor.bytes > file - tensor.offset) std::abort();
  }
  return 0;
}
