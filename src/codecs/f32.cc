// F32: the values themselves.
#include <cstring>

#include "codecs/codec.h"

namespace venturi {

namespace {
void decode(const uint8_t* blocks, float* out, int64_t n) { std::memcpy(out, blocks, n * 4); }
void encode(const float* values, const float*, uint8_t* blocks, int64_t n) { std::memcpy(blocks, values, n * 4); }
}  // namespace

extern const Codec codec_f32;
const Codec codec_f32{.name = "F32", .ggml_type = 0, .block_elems = 1, .block_bytes = 4,
                      .decode = decode, .encode = encode, .group = 0, .has_min = false,
                      .unpack = nullptr, .layout = &kLayoutF32};

}  // namespace venturi
