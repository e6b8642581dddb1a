// Bytes of a block to numbers: what the block codecs share. Private to this folder.
//
// Everything here is `static` on purpose: inlined into files built for one instruction set, it must
// not leave a copy behind that the linker could hand to files built for another.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

#include "codecs/codec.h"

namespace venturi::block {

// The exact value of a half, as f16_to_f32, but inlined and without branches, so that a loop over
// it becomes vector code and one scale costs about a nanosecond.
[[gnu::always_inline]] static inline float half_value(uint16_t h) {
  const uint32_t magnitude = h & 0x7fff;
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000) << 16;
  const uint32_t rebias = magnitude >= 0x7c00 ? 224u << 23 : 112u << 23;  // infinity, NaN: 255
  const uint32_t normal = (magnitude << 13) + rebias;
  // Subnormal: half an ulp of 0.5 is 2^-25, so 0.5 + magnitude * 2^-24 is exact, and so is minus
  // 0.5.
  const float subnormal = std::bit_cast<float>(0x3f000000 + magnitude) - 0.5f;
  const uint32_t bits = magnitude < 0x400 ? std::bit_cast<uint32_t>(subnormal) : normal;
  return std::bit_cast<float>(bits | sign);
}

[[gnu::always_inline]] static inline uint16_t load_u16(const uint8_t* p) {
  uint16_t v;
  std::memcpy(&v, p, 2);
  return v;
}

[[gnu::always_inline]] static inline void store_u16(uint8_t* p, uint16_t v) {
  std::memcpy(p, &v, 2);
}

[[gnu::always_inline]] static inline float load_half(const uint8_t* p) {
  return half_value(load_u16(p));
}

// The codec's decode, from its integer view. Equal, bit for bit, to the format's own definition:
// scale and min are products of an 11-bit and an at most 8-bit number, hence exact in f32, and one
// multiplication and one subtraction remain, in the order in which every format states them.
template <int kBlock, int kBytes, int kGroup, bool kHasMin,
          void (*kUnpack)(const uint8_t*, int8_t*, float*, float*)>
void decode(const uint8_t* blocks, float* out, int64_t n) {
  constexpr int kGroups = kBlock / kGroup;
  for (int64_t start = 0; start < n; start += kBlock, blocks += kBytes, out += kBlock) {
    int8_t q[kBlock];
    float scale[kGroups];
    float min[kGroups];
    kUnpack(blocks, q, scale, min);
    for (int g = 0; g < kGroups; ++g)
      for (int i = 0; i < kGroup; ++i) {
        const float product = scale[g] * static_cast<float>(q[g * kGroup + i]);
        out[g * kGroup + i] = kHasMin ? product - min[g] : product;
      }
  }
}

}  // namespace venturi::block
