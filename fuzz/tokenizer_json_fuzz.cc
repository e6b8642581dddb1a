// Any bytes as tokenizer.json: an error, or a vocabulary with as many tokens as the embedding has
// rows.
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

#include "formats/hf_vocabulary.h"

namespace {

// The reader wants a folder: one in memory, for the life of the process.
const std::string& folder() {
  // Never destroyed: the handler below runs after the statics are gone.
  static const std::string& path = *[] {
    auto* name = new std::string("/dev/shm/venturi_fuzz_XXXXXX");
    if (!::mkdtemp(name->data())) std::abort();
    std::atexit([] {
      ::unlink((folder() + "/tokenizer.json").c_str());
      ::rmdir(folder().c_str());
    });
    return name;
  }();
  return path;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace venturi;
  std::ofstream(folder() + "/tokenizer.json", std::ios::binary)
      .write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(size));
  Metadata metadata;
  if (!set_hf_vocabulary(folder(), HfConfig(), 64, metadata).ok()) return 0;
  const auto tokens = metadata.get_strings("tokenizer.ggml.tokens");
  const auto types = metadata.get_ints("tokenizer.ggml.token_type");
  if (!tokens.ok() || !types.ok() || tokens->size() != 64 || types->size() != 64) std::abort();
  return 0;
}
