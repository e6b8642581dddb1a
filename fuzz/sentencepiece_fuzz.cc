// Any bytes as SentencePiece's tokenizer.model: an error, or pieces that lie inside them.
#include <cstdlib>

#include "formats/sentencepiece_model.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto model = venturi::parse_sentencepiece_model(bytes, "fuzz");
  if (!model.ok()) return 0;
  for (const auto& piece : model->pieces)
    if (piece.text.empty() || piece.text.data() < bytes.data() ||
        piece.text.data() + piece.text.size() > bytes.data() + bytes.size())
      std::abort();
  return 0;
}
