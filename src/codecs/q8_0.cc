// Q8_0: 32 values in 34 bytes: scale (half), 32 signed bytes in -127..127. x = scale * q.
#include "codecs/block.h"
#include "codecs/codec.h"
#include "codecs/scale_search.h"

namespace venturi {

namespace {

constexpr int kBlock = 32;
constexpr int kBytes = 34;
// -128 could be stored, but is never written: it has no negative, and kernels negate codes.
constexpr search::UniformLevels kLevels{-127, 127};
// Eight bits leave nothing to win by clipping, but each scale rounds the 32 values differently, and
// the best of some is about a tenth better than the first.
constexpr search::Grid kGrid{0.90f, 0.004f, 28};

void unpack(const uint8_t* block, int8_t* q, float* scale, float*) {
  scale[0] = block::load_half(block);
  std::memcpy(q, block + 2, kBlock);
}

void encode(const float* values, const float* importance, uint8_t* blocks, int64_t n) {
  search::Samples s;
  for (int64_t start = 0; start < n; start += kBlock, blocks += kBytes) {
    search::load_samples(values + start, importance ? importance + start : nullptr, kBlock, s);
    const uint16_t scale = search::fit_half_scale(s.x, s.w, kBlock, kLevels, kGrid);
    int8_t q[kBlock];
    search::quantize(s.x, kBlock, kLevels, f16_to_f32(scale), q);
    block::store_u16(blocks, scale);
    std::memcpy(blocks + 2, q, kBlock);
  }
}

}  // namespace

extern const Codec codec_q8_0;
const Codec codec_q8_0{.name = "Q8_0",
                       .ggml_type = 8,
                       .block_elems = kBlock,
                       .block_bytes = kBytes,
                       .decode = block::decode<kBlock, kBytes, 32, false, unpack>,
                       .encode = encode,
                       .group = 32,
                       .has_min = false,
                       .unpack = unpack,
                       .layout = &kLayoutQ8_0};

}  // namespace venturi
