// F16: IEEE half precision.
#include <cstring>

#include "codecs/block.h"
#include "codecs/codec.h"

namespace venturi {

namespace {

void decode(const uint8_t* blocks, float* out, int64_t n) {
  for (int64_t i = 0; i < n; ++i) out[i] = block::load_half(blocks + 2 * i);
}

void encode(const float* values, const float*, uint8_t* blocks, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const uint16_t h = f32_to_f16(values[i]);
    std::memcpy(blocks + 2 * i, &h, 2);
  }
}

}  // namespace

extern const Codec codec_f16;
const Codec codec_f16{.name = "F16",
                      .ggml_type = 1,
                      .block_elems = 1,
                      .block_bytes = 2,
                      .decode = decode,
                      .encode = encode,
                      .group = 0,
                      .has_min = false,
                      .unpack = nullptr,
                      .layout = &kLayoutF16};

}  // namespace venturi
