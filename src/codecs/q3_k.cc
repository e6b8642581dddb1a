// Q3_K: 256 values in 110 bytes: 32 bytes of high bits, 64 bytes of low 2-bit codes (laid out as in
// Q2_K), 12 bytes with 16 six-bit scales, d (half). x = d * scale * q, scale in -32..31 stored with
// 32 added, q in -4..3: its low two bits, and a high bit that is set where 4 is not to be
// subtracted. High bit of value 32 k + l: bit k of byte l. Scale j: low four bits in byte j % 8
// (low half for j < 8), high two in byte 8 + j % 4 at 2 (j / 4).
#include "codecs/k_blocks.h"

namespace venturi {

namespace {

constexpr int kBlock = 256;
constexpr int kBytes = 110;
constexpr block::ScaleSearch kSearch{
    .levels = {-4, 3},
    .limits = {.groups = 16, .group_size = 16, .lo = -32, .hi = 31, .reach = 3},
    .group_grid = {0.70f, 0.02f, 50},
    .block_grid = {0.85f, 0.01f, 31}};

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

// Codes into high and low bits, where they are to lie.
void pack(int8_t* q, uint8_t* out) {
  std::memset(out, 0, 32);
  for (int i = 0; i < kBlock; ++i) {
    const int stored = q[i] + 4;
    out[i % 32] |= static_cast<uint8_t>((stored >> 2) << (i / 32));
    q[i] = static_cast<int8_t>(stored & 3);
  }
  block::pack_2bit(q, out + 32);
}

void encode(const float* values, const float* importance, uint8_t* blocks, int64_t n) {
  block::encode_scales(values, importance, blocks, n, kBytes, kSearch,
                       [](int8_t* q, const search::GroupScales& fit, uint8_t* out) {
                         pack(q, out);
                         pack_scales(fit.scale, out + 96);
                         block::store_u16(out + 108, fit.d);
                       });
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
