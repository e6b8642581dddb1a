// IQ4_XS: 256 values in 136 bytes: d (half), 16 bits with the high two bits of scale g at 2g, 4
// bytes with the low four bits of scales 2b and 2b + 1, then for each group of 32 the 16 code bytes
// of IQ4_NL. x = d * scale * level[code], scale in -32..31, stored with 32 added.
#include "codecs/block.h"
#include "codecs/codec.h"
#include "codecs/iq4_levels.h"
#include "codecs/scale_search.h"

namespace venturi {

namespace {

constexpr int kBlock = 256;
constexpr int kBytes = 136;
constexpr search::GroupLimits kLimits{
    .groups = 8, .group_size = 32, .lo = -32, .hi = 31, .reach = 3};
constexpr search::Grid kGroupGrid{0.80f, 0.02f, 30};
constexpr search::Grid kBlockGrid{0.85f, 0.01f, 31};

void unpack(const uint8_t* block, int8_t* q, float* scale, float*) {
  const float d = block::load_half(block);
  const int high = block::load_u16(block + 2);
  for (int g = 0; g < 8; ++g) {
    const int low = block[4 + g / 2] >> (4 * (g % 2)) & 15;
    scale[g] = d * static_cast<float>((low | (high >> (2 * g) & 3) << 4) - 32);
    unpack_iq4(block + 8 + 16 * g, q + 32 * g);
  }
}

void encode(const float* values, const float* importance, uint8_t* blocks, int64_t n) {
  search::Samples s;
  for (int64_t start = 0; start < n; start += kBlock, blocks += kBytes) {
    search::load_samples(values + start, importance ? importance + start : nullptr, kBlock, s);
    const search::GroupScales fit =
        search::fit_group_scales(s, Iq4Levels{}, kLimits, kGroupGrid, kBlockGrid);
    const float d = f16_to_f32(fit.d);
    uint32_t high = 0;
    std::memset(blocks + 4, 0, 4);
    for (int g = 0; g < 8; ++g) {
      int8_t q[32];
      search::quantize(s.x + 32 * g, 32, Iq4Levels{}, d * fit.scale[g], q);
      pack_iq4(q, blocks + 8 + 16 * g);
      const uint32_t stored = static_cast<uint32_t>(fit.scale[g] + 32);
      blocks[4 + g / 2] |= static_cast<uint8_t>((stored & 15) << (4 * (g % 2)));
      high |= stored >> 4 << (2 * g);
    }
    block::store_u16(blocks, fit.d);
    block::store_u16(blocks + 2, static_cast<uint16_t>(high));
  }
}

}  // namespace

extern const Codec codec_iq4_xs;
const Codec codec_iq4_xs{.name = "IQ4_XS",
                         .ggml_type = 23,
                         .block_elems = kBlock,
                         .block_bytes = kBytes,
                         .decode = block::decode<kBlock, kBytes, 32, false, unpack>,
                         .encode = encode,
                         .group = 32,
                         .has_min = false,
                         .unpack = unpack,
                         .layout = nullptr};

}  // namespace venturi
