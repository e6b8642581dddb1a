// Q5_1: 32 values in 24 bytes: scale and offset (halves), 32 bits with the fifth bit of value i at
// bit i, then the low four bits as in Q4_1. x = scale * q + offset, q in 0..31.
#include "codecs/affine_search.h"
#include "codecs/block.h"
#include "codecs/codec.h"

namespace venturi {

namespace {

constexpr int kBlock = 32;
constexpr int kBytes = 24;
constexpr int kMaxCode = 31;
constexpr search::AffineGrid kGrid{-1.0f, 0.4f, 8};

void unpack(const uint8_t* block, int8_t* q, float* scale, float* min) {
  scale[0] = block::load_half(block);
  min[0] = -block::load_half(block + 2);
  block::unpack_5bit(block + 4, q, 0);
}

void encode(const float* values, const float* importance, uint8_t* blocks, int64_t n) {
  search::Samples s;
  for (int64_t start = 0; start < n; start += kBlock, blocks += kBytes) {
    search::load_samples(values + start, importance ? importance + start : nullptr, kBlock, s);
    const search::HalfPair pair = search::fit_half_pair(s.x, s.w, kBlock, kMaxCode, kGrid);
    int8_t q[kBlock];
    search::affine_codes(s.x, kBlock, kMaxCode, f16_to_f32(pair.scale), f16_to_f32(pair.offset), q);
    block::store_u16(blocks, pair.scale);
    block::store_u16(blocks + 2, pair.offset);
    block::pack_5bit(q, 0, blocks + 4);
  }
}

}  // namespace

extern const Codec codec_q5_1;
const Codec codec_q5_1{.name = "Q5_1",
                       .ggml_type = 7,
                       .block_elems = kBlock,
                       .block_bytes = kBytes,
                       .decode = block::decode<kBlock, kBytes, 32, true, unpack>,
                       .encode = encode,
                       .group = 32,
                       .has_min = true,
                       .unpack = unpack,
                       .layout = nullptr};

}  // namespace venturi
