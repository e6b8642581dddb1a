// Q5_K: 256 values in 176 bytes: d and dmin (halves), 12 bytes with eight six-bit scales and mins,
// 32 bytes of high bits, 128 bytes of low 4-bit codes (laid out as in Q4_K). x = d * scale * q -
// dmin * min for each group of 32, q in 0..31. High bit of value 32 g + l: bit g of byte l.
#include "codecs/k_blocks.h"

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
  block::unpack_k_head(block, scale, min);
  const uint8_t* high = block + 16;
  block::unpack_k_nibbles(block + 48, q);
  for (int g = 0; g < 8; ++g)
    for (int l = 0; l < 32; ++l)
      q[32 * g + l] = static_cast<int8_t>(q[32 * g + l] | (high[l] >> g & 1) << 4);
}

void encode(const float* values, const float* importance, uint8_t* blocks, int64_t n) {
  block::encode_pairs(values, importance, blocks, n, kBytes, kLimits, kGrid,
                      [](const int8_t* q, uint8_t* out) {
                        std::memset(out + 16, 0, 32);
                        for (int i = 0; i < kBlock; ++i)
                          out[16 + i % 32] |= static_cast<uint8_t>((q[i] >> 4) << (i / 32));
                        block::pack_k_nibbles(q, out + 48);
                      });
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
