// BF16: the upper half of an f32, rounded to nearest even. NaN stays NaN, infinity stays infinity,
// and a finite value above the largest BF16 rounds to infinity, as IEEE rounding says.
#include "codecs/block.h"
#include "codecs/codec.h"

namespace venturi {

namespace {

void decode(const uint8_t* blocks, float* out, int64_t n) {
  for (int64_t i = 0; i < n; ++i)
    out[i] = std::bit_cast<float>(static_cast<uint32_t>(block::load_u16(blocks + 2 * i)) << 16);
}

void encode(const float* values, const float*, uint8_t* blocks, int64_t n) {
  for (int64_t i = 0; i < n; ++i) block::store_u16(blocks + 2 * i, f32_to_bf16(values[i]));
}

}  // namespace

extern const Codec codec_bf16;
const Codec codec_bf16{.name = "BF16",
                       .ggml_type = 30,
                       .block_elems = 1,
                       .block_bytes = 2,
                       .decode = decode,
                       .encode = encode,
                       .group = 0,
                       .has_min = false,
                       .unpack = nullptr,
                       .layout = &kLayoutBF16};

}  // namespace venturi
