#include "codecs/codec.h"

#include "codec_registry.inc"

namespace venturi {

std::span<const Codec* const> all_codecs() { return kAll_Codec; }

const Codec* find_codec(std::string_view name) {
  for (const Codec* codec : kAll_Codec)
    if (codec->name == name) return codec;
  return nullptr;
}

const Codec* find_codec_by_ggml_type(uint32_t type) {
  for (const Codec* codec : kAll_Codec)
    if (codec->ggml_type == type) return codec;
  return nullptr;
}

}  // namespace venturi
