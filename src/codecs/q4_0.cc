// Q4_0: 32 values in 18 bytes: scale (half), then 16 bytes, each with value i in its low and value
// i + 16 in its high four bits, stored as q + 8. x = scale * q, q in -8..7; the scale may be
// negative, so that -8 reaches the value farthest from 0, whatever its sign.
#include "codecs/block.h"
#include "codecs/codec.h"
#include "codecs/scale_search.h"

namespace venturi {

namespace {

constexpr int kBlock = 32;
constexpr int kBytes = 18;
constexpr search::UniformLevels kLevels{-8, 7};
constexpr search::Grid kGrid{0.80f, 0.0125f, 57};

void unpack(const uint8_t* block, int8_t* q, float* scale, float*) {
  scale[0] = block::load_half(block);
  block::unpack_nibbles(block + 2, kBlock, q, 8);
}

void encode(const float* values, const float* importance, uint8_t* blocks, int64_t n) {
  search::Samples s;
  for (int64_t start = 0; start < n; start += kBlock, blocks += kBytes) {
    search::load_samples(values + start, importance ? importance + start : nullptr, kBlock, s);
    const uint16_t scale = search::fit_half_scale(s.x, s.w, kBlock, kLevels, kGrid);
    int8_t q[kBlock];
    search::quantize(s.x, kBlock, kLevels, f16_to_f32(scale), q);
    block::store_u16(blocks, scale);
    block::pack_nibbles(q, kBlock, 8, blocks + 2);
  }
}

}  // namespace

extern const Codec codec_q4_0;
const Codec codec_q4_0{.name = "Q4_0",
                       .ggml_type = 2,
                       .block_elems = kBlock,
                       .block_bytes = kBytes,
                       .decode = block::decode<kBlock, kBytes, 32, false, unpack>,
                       .encode = encode,
                       .group = 32,
                       .has_min = false,
                       .unpack = unpack,
                       .layout = &kLayoutQ4_0};

}  // namespace venturi
