// Q6_K: 256 values in 210 bytes: 128 bytes of low four bits, 64 bytes of high two bits, 16 signed
// bytes of scales, d (half). x = d * scale * q for each group of 16, q in -32..31, stored with 32
// added. Value 128 h + 32 k + l (h < 2, k < 4, l < 32): low bits in byte 64 h + 32 (k % 2) + l, low
// half for k < 2; high bits in byte 32 h + l at 2k.
#include "codecs/k_blocks.h"

namespace venturi {

namespace {

constexpr int kBlock = 256;
constexpr int kBytes = 210;
constexpr block::ScaleSearch kSearch{
    .levels = {-32, 31},
    .limits = {.groups = 16, .group_size = 16, .lo = -128, .hi = 127, .reach = 6},
    .group_grid = {0.85f, 0.01f, 25},
    .block_grid = {0.95f, 0.005f, 15}};

void unpack(const uint8_t* block, int8_t* q, float* scale, float*) {
  const uint8_t* high = block + 128;
  const float d = block::load_half(block + 208);
  for (int g = 0; g < 16; ++g)
    scale[g] = d * static_cast<float>(static_cast<int8_t>(block[192 + g]));
  for (int h = 0; h < 2; ++h)
    for (int k = 0; k < 4; ++k) {
      const uint8_t* low = block + 64 * h + 32 * (k % 2);
      const int shift = k < 2 ? 0 : 4;
      for (int l = 0; l < 32; ++l)
        q[128 * h + 32 * k + l] = static_cast<int8_t>(
            ((low[l] >> shift & 15) | (high[32 * h + l] >> (2 * k) & 3) << 4) - 32);
    }
}

void pack(const int8_t* q, uint8_t* block) {
  std::memset(block, 0, 192);
  for (int i = 0; i < kBlock; ++i) {
    const int h = i / 128;
    const int k = i / 32 % 4;
    const int l = i % 32;
    const int stored = q[i] + 32;
    block[64 * h + 32 * (k % 2) + l] |= static_cast<uint8_t>((stored & 15) << (k < 2 ? 0 : 4));
    block[128 + 32 * h + l] |= static_cast<uint8_t>(stored >> 4 << (2 * k));
  }
}

void encode(const float* values, const float* importance, uint8_t* blocks, int64_t n) {
  block::encode_scales(values, importance, blocks, n, kBytes, kSearch,
                       [](const int8_t* q, const search::GroupScales& fit, uint8_t* out) {
                         pack(q, out);
                         std::memcpy(out + 192, fit.scale, 16);
                         block::store_u16(out + 208, fit.d);
                       });
}

}  // namespace

extern const Codec codec_q6_k;
const Codec codec_q6_k{.name = "Q6_K",
                       .ggml_type = 14,
                       .block_elems = kBlock,
                       .block_bytes = kBytes,
                       .decode = block::decode<kBlock, kBytes, 16, false, unpack>,
                       .encode = encode,
                       .group = 16,
                       .has_min = false,
                       .unpack = unpack,
                       .layout = &kLayoutQ6_K};

}  // namespace venturi
