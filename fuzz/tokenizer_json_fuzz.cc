// Any bytes as tokenizer.json: an error, or a vocabulary with as many tokens as the embedding has
// rows.
#include "formats/hf_vocabulary.h"
#include "memory_folder.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace venturi;
  MemoryFolder folder;
  folder.write({"tokenizer.json"}, data, size);
  Metadata metadata;
  if (!set_hf_vocabulary(folder.path(), HfConfig(), 64, metadata).ok()) return 0;
  const auto tokens = metadata.get_strings("tokenizer.ggml.tokens");
  const auto types = metadata.get_ints("tokenizer.ggml.token_type");
  if (!tokens.ok() || !types.ok() || tokens->size() != 64 || types->size() != 64) std::abort();
  return 0;
}
