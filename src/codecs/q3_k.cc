// Q3_K: 256 values in 110 bytes: 32 bytes of high bits, 64 bytes of low 2-bit codes (laid out as in
// Q2_K), 12 bytes with 16 six-bit scales, d (half). x = d * scale * q, scale in -32..31 stored with
// 32 added, q in -4..3: its low two bits, and a high bit that is set where 4 is not to be
// subtracted. High bit of value 32 k + l: bit k of byte l. Scale j: low four bits in byte j % 8
// (low half for j < 8), high two in byte 8 + j % 4 at 2 (j / 4).
#include "codecs/block.h"
#include "codecs/codec.h"
#include "codecs/scale_search.h"

namespace venturi {

namespace {

constexpr int kBlock = 256;
constexpr int kBytes = 110;
constexpr search::UniformLevels kLevels{-4, 3};
constexpr search::GroupLimits kLimits{
    .groups = 16, .group_size = 16, .lo = -32, .hi = 31, .reach = 3};
constexpr search::Grid kGroupGrid{0.70f, 0.02f, 50};
constexpr search::Grid kBlockGrid{0.85f, 0.01f, 31};

void unpack(const uint8_t* block, int8_t* q, float* scale, float*) {
  const uint8_t* high = block;
  const uint8_t* packed = block + 96;
  const float d = block::load_half(block + 108);
  for (int j = 0; j < 16; ++j) {
    const int low = packed[j % 8] >> (j < 8 ? 0 : 4) & 15;
    const int top = packed[8 + j % 4] >> (2 * (j / 4)) & 3;
    scale[j] = d * static_cast<float>((low | top << 4) - 32);
  }
  block::unpack_2bit(block + 32, q);
  for (int k = 0; k < 8; ++k)
    for (int l = 0; l < 32; ++l)
      q[32 * k + l] = static_cast<int8_t>((q[32 * k + l] | (high[l] >> k & 1) << 2) - 4);
}

void pack_scales(const int8_t* scale, uint8_t* packed) {
  std::memset(packed, 0, 12);
  for (int j = 0; j < 16; ++j) {
    const int stored = scale[j] + 32;
    packed[j % 8] |= static_cast<uint8_t>((stored & 15) << (j < 8 ? 0 : 4));
    packed[8 + j % 4] |= static_cast<uint8_t>(stored >> 4 << (2 * (j / 4)));
  }
}

void encode(const float* values, const float* importance, uint8_t* blocks, int64_t n) {
  search::Samples s;
  for (int64_t start = 0; start < n; start += kBlock, blocks += kBytes) {
    search::load_samples(values + start, importance ? importance + start : nullptr, kBlock, s);
    const search::GroupScales fit =
        search::fit_group_scales(s, kLevels, kLimits, kGroupGrid, kBlockGrid);
    const float d = f16_to_f32(fit.d);
    int8_t q[kBlock];
    for (int g = 0; g < 16; ++g)
      search::quantize(s.x + 16 * g, 16, kLevels, d * fit.scale[g], q + 16 * g);
    std::memset(blocks, 0, 32);
    for (int i = 0; i < kBlock; ++i) {
      const int stored = q[i] + 4;
      blocks[i % 32] |= static_cast<uint8_t>((stored >> 2) << (i / 32));
      q[i] = static_cast<int8_t>(stored & 3);
    }
    block::pack_2bit(q, blocks + 32);
    pack_scales(fit.scale, blocks + 96);
    block::store_u16(blocks + 108, fit.d);
  }
}

}  // namespace

extern const Codec codec_q3_k;
const Codec codec_q3_k{.name = "Q3_K",
                       .ggml_type = 11,
                       .block_elems = kBlock,
                       .block_bytes = kBytes,
                       .decode = block::decode<kBlock, kBytes, 16, false, unpack>,
                       .encode = encode,
                       .group = 16,
                       .has_min = false,
                       .unpack = unpack,
                       .layout = nullptr};

}  // namespace venturi
