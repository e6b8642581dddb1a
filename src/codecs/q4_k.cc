// Q4_K: 256 values in 144 bytes: d and dmin (halves), 12 bytes with eight six-bit scales and mins,
// 128 bytes of 4-bit codes. x = d * scale * q - dmin * min for each group of 32, q in 0..15. Code
// byte 32 c + l holds value 64 c + l in its low and 64 c + 32 + l in its high bits.
#include "codecs/affine_search.h"
#include "codecs/block.h"
#include "codecs/codec.h"

namespace venturi {

namespace {

constexpr int kBlock = 256;
constexpr int kBytes = 144;
constexpr search::PairLimits kLimits{.groups = 8,
                                     .group_size = 32,
                                     .max_code = 15,
                                     .max_scale = 63,
                                     .scale_reach = 2,
                                     .min_reach = 3};
constexpr search::AffineGrid kGrid{-0.5f, 0.25f, 8};

void unpack(const uint8_t* block, int8_t* q, float* scale, float* min) {
  const float d = block::load_half(block);
  const float dmin = block::load_half(block + 2);
  uint8_t scales[8];
  uint8_t mins[8];
  block::unpack_k_scales(block + 4, scales, mins);
  for (int g = 0; g < 8; ++g) {
    scale[g] = d * static_cast<float>(scales[g]);
    min[g] = dmin * static_cast<float>(mins[g]);
  }
  block::unpack_k_nibbles(block + 16, q);
}

void encode(const float* values, const float* importance, uint8_t* blocks, int64_t n) {
  search::Samples s;
  for (int64_t start = 0; start < n; start += kBlock, blocks += kBytes) {
    search::load_samples(values + start, importance ? importance + start : nullptr, kBlock, s);
    const search::GroupPairs fit = search::fit_group_pairs(s, kLimits, kGrid);
    const float d = f16_to_f32(fit.d);
    const float dmin = f16_to_f32(fit.dmin);
    int8_t q[kBlock];
    for (int g = 0; g < 8; ++g)
      search::affine_codes(s.x + 32 * g, 32, kLimits.max_code, d * fit.scale[g], -dmin * fit.min[g],
                           q + 32 * g);
    block::store_u16(blocks, fit.d);
    block::store_u16(blocks + 2, fit.dmin);
    block::pack_k_scales(fit.scale, fit.min, blocks + 4);
    block::pack_k_nibbles(q, blocks + 16);
  }
}

}  // namespace

extern const Codec codec_q4_k;
const Codec codec_q4_k{.name = "Q4_K",
                       .ggml_type = 12,
                       .block_elems = kBlock,
                       .block_bytes = kBytes,
                       .decode = block::decode<kBlock, kBytes, 32, true, unpack>,
                       .encode = encode,
                       .group = 32,
                       .has_min = true,
                       .unpack = unpack,
                       .layout = &kLayoutQ4_K};

}  // namespace venturi
