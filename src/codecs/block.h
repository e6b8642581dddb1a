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
  // A mask, not a choice: a compiler may not speculate float arithmetic, and would branch.
  const uint32_t mask = 0u - static_cast<uint32_t>(magnitude < 0x400);
  const uint32_t bits = (std::bit_cast<uint32_t>(subnormal) & mask) | (normal & ~mask);
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

// Where several formats share a layout of codes. `q` are the stored, unsigned codes, except where
// `bias` is given: then codes are stored with it added.

// n codes of four bits: value i in the low and value i + n / 2 in the high half of byte i.
[[gnu::always_inline]] static inline void unpack_nibbles(const uint8_t* p, int n, int8_t* q,
                                                         int bias) {
  for (int i = 0; i < n / 2; ++i) {
    q[i] = static_cast<int8_t>((p[i] & 15) - bias);
    q[i + n / 2] = static_cast<int8_t>((p[i] >> 4) - bias);
  }
}
[[maybe_unused]] static void pack_nibbles(const int8_t* q, int n, int bias, uint8_t* p) {
  for (int i = 0; i < n / 2; ++i)
    p[i] = static_cast<uint8_t>(((q[i] + bias) & 15) | (q[i + n / 2] + bias) << 4);
}

// Eight bits to eight bytes of 0 or 1, bit i to byte i: copy the bits to every byte, keep bit i in
// byte i, then carry whatever was kept into bit 7. Byte order is that of the little-endian hosts we
// run on.
[[gnu::always_inline]] static inline uint64_t spread_bits(uint8_t bits) {
  const uint64_t kept = bits * 0x0101010101010101u & 0x8040201008040201u;
  return (kept + 0x7f7f7f7f7f7f7f7fu) >> 7 & 0x0101010101010101u;
}

// 32 codes of five bits: 4 bytes with the high bit of value i at bit i, then 16 bytes of nibbles.
[[gnu::always_inline]] static inline void unpack_5bit(const uint8_t* p, int8_t* q, int bias) {
  uint8_t high[32];
  for (int i = 0; i < 4; ++i) {
    const uint64_t bits = spread_bits(p[i]) << 4;
    std::memcpy(high + 8 * i, &bits, 8);
  }
  for (int i = 0; i < 16; ++i) {
    q[i] = static_cast<int8_t>(((p[4 + i] & 15) | high[i]) - bias);
    q[i + 16] = static_cast<int8_t>(((p[4 + i] >> 4) | high[i + 16]) - bias);
  }
}
[[maybe_unused]] static void pack_5bit(const int8_t* q, int bias, uint8_t* p) {
  std::memset(p, 0, 4);
  int8_t low[32];
  for (int i = 0; i < 32; ++i) {
    const int stored = q[i] + bias;
    p[i / 8] |= static_cast<uint8_t>((stored >> 4) << (i % 8));
    low[i] = static_cast<int8_t>(stored & 15);
  }
  pack_nibbles(low, 32, 0, p + 4);
}

// 256 codes of two bits (Q2_K, Q3_K): byte 32 h + l holds values 128 h + 32 k + l at bits 2k.
[[gnu::always_inline]] static inline void unpack_2bit(const uint8_t* p, int8_t* q) {
  for (int h = 0; h < 2; ++h)
    for (int k = 0; k < 4; ++k)
      for (int l = 0; l < 32; ++l)
        q[128 * h + 32 * k + l] = static_cast<int8_t>(p[32 * h + l] >> (2 * k) & 3);
}
[[maybe_unused]] static void pack_2bit(const int8_t* q, uint8_t* p) {
  for (int h = 0; h < 2; ++h)
    for (int l = 0; l < 32; ++l) {
      const int8_t* v = q + 128 * h + l;
      p[32 * h + l] = static_cast<uint8_t>(v[0] | v[32] << 2 | v[64] << 4 | v[96] << 6);
    }
}

// 256 codes of four bits (Q4_K, Q5_K): each 32 bytes hold 64 values.
[[gnu::always_inline]] static inline void unpack_k_nibbles(const uint8_t* p, int8_t* q) {
  for (int c = 0; c < 4; ++c) unpack_nibbles(p + 32 * c, 64, q + 64 * c, 0);
}
[[maybe_unused]] static void pack_k_nibbles(const int8_t* q, uint8_t* p) {
  for (int c = 0; c < 4; ++c) pack_nibbles(q + 64 * c, 64, 0, p + 32 * c);
}

// Eight scales and eight mins of six bits in 12 bytes (Q4_K, Q5_K): numbers 0..3 are the low six
// bits of bytes 0..3 (scales) and 4..7 (mins); of numbers 4..7, the low four bits are the halves of
// bytes 8..11 (scale low, min high), and the high two are the top bits of bytes 0..3 (scales)
// and 4..7 (mins).
[[gnu::always_inline]] static inline void unpack_k_scales(const uint8_t* p, uint8_t* scale,
                                                          uint8_t* min) {
  for (int j = 0; j < 4; ++j) {
    scale[j] = p[j] & 63;
    min[j] = p[4 + j] & 63;
    scale[4 + j] = static_cast<uint8_t>((p[8 + j] & 15) | p[j] >> 6 << 4);
    min[4 + j] = static_cast<uint8_t>(p[8 + j] >> 4 | p[4 + j] >> 6 << 4);
  }
}
[[maybe_unused]] static void pack_k_scales(const uint8_t* scale, const uint8_t* min, uint8_t* p) {
  for (int j = 0; j < 4; ++j) {
    p[j] = static_cast<uint8_t>(scale[j] | scale[4 + j] >> 4 << 6);
    p[4 + j] = static_cast<uint8_t>(min[j] | min[4 + j] >> 4 << 6);
    p[8 + j] = static_cast<uint8_t>((scale[4 + j] & 15) | (min[4 + j] & 15) << 4);
  }
}

}  // namespace venturi::block
