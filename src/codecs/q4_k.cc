// Q4_K: 256 values in 144 bytes: d and dmin (halves), 12 bytes with eight six-bit scales and mins,
// 128 bytes of 4-bit codes. x = d * scale * q - dmin * min for each group of 32, q in 0..15. Code
// byte 32 c + l holds value 64 c + l in its low and 64 c + 32 + l in its high bits.
#include "codecs/k_blocks.h"

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
  block::unpack_k_head(block, scale, min);
  block::unpack_k_nibbles(block + 16, q);
}

void encode(const float* values, const float* importance, uint8_t* blocks, int64_t n) {
  block::encode_pairs(values, importance, blocks, n, kBytes, kLimits, kGrid,
                      [](const int8_t* q, uint8_t* out) { block::pack_k_nibbles(q, out + 16); });
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
