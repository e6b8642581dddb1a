// What the formats of 256 values with a scale for each of their groups share: the search for a
// block's scales and codes, and the head of those that have minima.
#pragma once

#include "codecs/affine_search.h"
#include "codecs/block.h"
#include "codecs/codec.h"
#include "codecs/scale_search.h"

namespace venturi::block {

inline constexpr int kValues = 256;

// Q4_K and Q5_K begin with d and dmin (halves) and 12 bytes of eight six-bit scales and mins.
inline void unpack_k_head(const uint8_t* block, float* scale, float* min) {
  const float d = load_half(block);
  const float dmin = load_half(block + 2);
  uint8_t scales[8];
  uint8_t mins[8];
  unpack_k_scales(block + 4, scales, mins);
  for (int g = 0; g < 8; ++g) {
    scale[g] = d * static_cast<float>(scales[g]);
    min[g] = dmin * static_cast<float>(mins[g]);
  }
}

// x = scale * q - min in eight groups of 32: writes each block's head, then put(q, block) its
// codes.
template <typename Put>
void encode_pairs(const float* values, const float* importance, uint8_t* blocks, int64_t n,
                  int block_bytes, const search::PairLimits& limits, const search::AffineGrid& grid,
                  const Put& put) {
  search::Samples s;
  for (int64_t start = 0; start < n; start += kValues, blocks += block_bytes) {
    search::load_samples(values + start, importance ? importance + start : nullptr, kValues, s);
    const search::GroupPairs fit = search::fit_group_pairs(s, limits, grid);
    const float d = f16_to_f32(fit.d);
    const float dmin = f16_to_f32(fit.dmin);
    int8_t q[kValues];
    for (int g = 0; g < 8; ++g)
      search::affine_codes(s.x + 32 * g, 32, limits.max_code, d * fit.scale[g], -dmin * fit.min[g],
                           q + 32 * g);
    store_u16(blocks, fit.d);
    store_u16(blocks + 2, fit.dmin);
    pack_k_scales(fit.scale, fit.min, blocks + 4);
    put(q, blocks);
  }
}

struct ScaleSearch {
  search::UniformLevels levels;
  search::GroupLimits limits;
  search::Grid group_grid, block_grid;
};

// x = scale * q in sixteen groups of 16: put(q, fit, block) writes codes, scales and d.
template <typename Put>
void encode_scales(const float* values, const float* importance, uint8_t* blocks, int64_t n,
                   int block_bytes, const ScaleSearch& how, const Put& put) {
  search::Samples s;
  for (int64_t start = 0; start < n; start += kValues, blocks += block_bytes) {
    search::load_samples(values + start, importance ? importance + start : nullptr, kValues, s);
    const search::GroupScales fit =
        search::fit_group_scales(s, how.levels, how.limits, how.group_grid, how.block_grid);
    const float d = f16_to_f32(fit.d);
    int8_t q[kValues];
    for (int g = 0; g < 16; ++g)
      search::quantize(s.x + 16 * g, 16, how.levels, d * fit.scale[g], q + 16 * g);
    put(q, fit, blocks);
  }
}

}  // namespace venturi::block
