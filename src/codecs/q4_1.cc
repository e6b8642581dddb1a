// Q4_1: 32 values in 20 bytes: scale and offset (halves), then 16 bytes, each with value i in its
// low and value i + 16 in its high four bits. x = scale * q + offset, q in 0..15.
#include "codecs/affine_search.h"
#include "codecs/block.h"
#include "codecs/codec.h"

namespace venturi {

namespace {

constexpr int kBlock = 32;
constexpr int kBytes = 20;
constexpr int kMaxCode = 15;
constexpr search::AffineGrid kGrid{-0.5f, 0.25f, 9};

void unpack(const uint8_t* block, int8_t* q, float* scale, float* min) {
  scale[0] = block::load_half(block);
  min[0] = -block::load_half(block + 2);
  block::unpack_nibbles(block + 4, kBlock, q, 0);
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
    block::pack_nibbles(q, kBlock, 0, blocks + 4);
  }
}

}  // namespace

extern const Codec codec_q4_1;
const Codec codec_q4_1{.name = "Q4_1",
                       .ggml_type = 3,
                       .block_elems = kBlock,
                       .block_bytes = kBytes,
                       .decode = block::decode<kBlock, kBytes, 32, true, unpack>,
                       .encode = encode,
                       .group = 32,
                       .has_min = true,
                       .unpack = unpack,
                       .layout = nullptr};

}  // namespace venturi
