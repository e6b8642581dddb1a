// Q2_K: 256 values in 84 bytes: 16 bytes with the scale (low four bits) and min (high) of each
// group of 16, 64 bytes of 2-bit codes, d and dmin (halves). x = d * scale * q - dmin * min, q in
// 0..3. Code byte 32 h + l holds values 128 h + 32 k + l at bits 2k, for h < 2, k < 4, l < 32.
#include "codecs/affine_search.h"
#include "codecs/block.h"
#include "codecs/codec.h"

namespace venturi {

namespace {

constexpr int kBlock = 256;
constexpr int kBytes = 84;
constexpr search::PairLimits kLimits{.groups = 16,
                                     .group_size = 16,
                                     .max_code = 3,
                                     .max_scale = 15,
                                     .scale_reach = 2,
                                     .min_reach = 2};
constexpr search::AffineGrid kGrid{-0.3f, 0.15f, 9};

void unpack(const uint8_t* block, int8_t* q, float* scale, float* min) {
  const float d = block::load_half(block + 80);
  const float dmin = block::load_half(block + 82);
  for (int g = 0; g < 16; ++g) {
    scale[g] = d * static_cast<float>(block[g] & 15);
    min[g] = dmin * static_cast<float>(block[g] >> 4);
  }
  block::unpack_2bit(block + 16, q);
}

void encode(const float* values, const float* importance, uint8_t* blocks, int64_t n) {
  search::Samples s;
  for (int64_t start = 0; start < n; start += kBlock, blocks += kBytes) {
    search::load_samples(values + start, importance ? importance + start : nullptr, kBlock, s);
    const search::GroupPairs fit = search::fit_group_pairs(s, kLimits, kGrid);
    const float d = f16_to_f32(fit.d);
    const float dmin = f16_to_f32(fit.dmin);
    int8_t q[kBlock];
    for (int g = 0; g < 16; ++g) {
      blocks[g] = static_cast<uint8_t>(fit.scale[g] | fit.min[g] << 4);
      search::affine_codes(s.x + 16 * g, 16, kLimits.max_code, d * fit.scale[g], -dmin * fit.min[g],
                           q + 16 * g);
    }
    block::pack_2bit(q, blocks + 16);
    block::store_u16(blocks + 80, fit.d);
    block::store_u16(blocks + 82, fit.dmin);
  }
}

}  // namespace

extern const Codec codec_q2_k;
const Codec codec_q2_k{.name = "Q2_K",
                       .ggml_type = 10,
                       .block_elems = kBlock,
                       .block_bytes = kBytes,
                       .decode = block::decode<kBlock, kBytes, 16, true, unpack>,
                       .encode = encode,
                       .group = 16,
                       .has_min = true,
                       .unpack = unpack,
                       .layout = nullptr};

}  // namespace venturi
