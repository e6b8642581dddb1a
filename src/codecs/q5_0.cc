// Q5_0: 32 values in 22 bytes: scale (half), 32 bits with the fifth bit of value i at bit i, then
// the low four bits as in Q4_0. x = scale * q, q in -16..15, stored as q + 16; the scale may be
// negative.
#include "codecs/block.h"
#include "codecs/codec.h"
#include "codecs/scale_search.h"

namespace venturi {

namespace {

constexpr int kBlock = 32;
constexpr int kBytes = 22;
constexpr search::UniformLevels kLevels{-16, 15};
constexpr search::Grid kGrid{0.85f, 0.008f, 50};

void unpack(const uint8_t* block, int8_t* q, float* scale, float*) {
  scale[0] = block::load_half(block);
  block::unpack_5bit(block + 2, q, 16);
}

void encode(const float* values, const float* importance, uint8_t* blocks, int64_t n) {
  search::Samples s;
  for (int64_t start = 0; start < n; start += kBlock, blocks += kBytes) {
    search::load_samples(values + start, importance ? importance + start : nullptr, kBlock, s);
    const uint16_t scale = search::fit_half_scale(s.x, s.w, kBlock, kLevels, kGrid);
    int8_t q[kBlock];
    search::quantize(s.x, kBlock, kLevels, f16_to_f32(scale), q);
    block::store_u16(blocks, scale);
    block::pack_5bit(q, 16, blocks + 2);
  }
}

}  // namespace

extern const Codec codec_q5_0;
const Codec codec_q5_0{.name = "Q5_0",
                       .ggml_type = 6,
                       .block_elems = kBlock,
                       .block_bytes = kBytes,
                       .decode = block::decode<kBlock, kBytes, 32, false, unpack>,
                       .encode = encode,
                       .group = 32,
                       .has_min = false,
                       .unpack = unpack,
                       .layout = nullptr};

}  // namespace venturi
