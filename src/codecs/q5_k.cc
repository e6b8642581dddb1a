// Q5_K: 256 values in 176 bytes: d and dmin (halves), 12 bytes with eight six-bit scales and mins,
// 32 bytes of high bits, 128 bytes of low 4-bit codes (laid out as in Q4_K). x = d * scale * q -
// dmin * min for each group of 32, q in 0..31. High bit of value 32 g + l: bit g of byte l.
#include "codecs/affine_search.h"
#include "codecs/block.h"
#include "codecs/codec.h"

namespace venturi {

namespace {

constexpr int kBlock = 256;
constexpr int kBytes = 176;
constexpr search::PairLimits kLimits{.groups = 8,
                                     .group_size = 32,
                                     .max_code = 31,
                                     .max_scale = 63,
                                     .scale_reach = 2,
                                     .min_reach = 3};
constexpr search::AffineGrid kGrid{-1.0f, 0.4f, 8};

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
  const uint8_t* high = block + 16;
  block::unpack_k_nibbles(block + 48, q);
  for (int g = 0; g < 8; ++g)
    for (int l = 0; l < 32; ++l)
      q[32 * g + l] = static_cast<int8_t>(q[32 * g + l] | (high[l] >> g & 1) << 4);
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
    std::memset(blocks + 16, 0, 32);
    for (int i = 0; i < kBlock; ++i)
      blocks[16 + i % 32] |= static_cast<uint8_t>((q[i] >> 4) << (i / 32));
    block::pack_k_nibbles(q, blocks + 48);
  }
}

}  // namespace

extern const Codec codec_q5_k;
const Codec codec_q5_k{.name = "Q5_K",
                       .ggml_type = 13,
                       .block_elems = kBlock,
                       .block_bytes = kBytes,
                       .decode = block::decode<kBlock, kBytes, 32, true, unpack>,
                       .encode = encode,
                       .group = 32,
                       .has_min = true,
                       .unpack = unpack,
                       .layout = nullptr};

}  // namespace venturi
