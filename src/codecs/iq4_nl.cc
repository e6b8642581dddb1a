// IQ4_NL: 32 values in 18 bytes: scale (half), then 16 bytes with code i in the low and code i + 16
// in the high four bits. x = scale * level[code], the 16 levels spaced more densely near 0; the
// scale may be negative.
#include "codecs/block.h"
#include "codecs/codec.h"
#include "codecs/iq4_levels.h"
#include "codecs/scale_search.h"

namespace venturi {

namespace {

constexpr int kBlock = 32;
constexpr int kBytes = 18;
constexpr search::Grid kGrid{0.80f, 0.0125f, 57};

void unpack(const uint8_t* block, int8_t* q, float* scale, float*) {
  scale[0] = block::load_half(block);
  unpack_iq4(block + 2, q);
}

void encode(const float* values, const float* importance, uint8_t* blocks, int64_t n) {
  search::Samples s;
  for (int64_t start = 0; start < n; start += kBlock, blocks += kBytes) {
    search::load_samples(values + start, importance ? importance + start : nullptr, kBlock, s);
    const uint16_t scale = search::fit_half_scale(s.x, s.w, kBlock, Iq4Levels{}, kGrid);
    int8_t q[kBlock];
    search::quantize(s.x, kBlock, Iq4Levels{}, f16_to_f32(scale), q);
    block::store_u16(blocks, scale);
    pack_iq4(q, blocks + 2);
  }
}

}  // namespace

extern const Codec codec_iq4_nl;
const Codec codec_iq4_nl{.name = "IQ4_NL",
                         .ggml_type = 20,
                         .block_elems = kBlock,
                         .block_bytes = kBytes,
                         .decode = block::decode<kBlock, kBytes, 32, false, unpack>,
                         .encode = encode,
                         .group = 32,
                         .has_min = false,
                         .unpack = unpack,
                         .layout = nullptr};

}  // namespace venturi
