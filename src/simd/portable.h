// The wrapper in plain C++: for machines without a tuned set, and as the reference of the others.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace venturi::portable {

constexpr int kLanes = 8;
constexpr const char* kName = "portable";

struct F32 { float v[kLanes]; };
struct I32 { int32_t v[kLanes]; };
struct Bytes { uint8_t v[4 * kLanes]; };
struct I16 { uint16_t v[2 * kLanes]; };

template <typename Fn>
inline F32 map(Fn fn) {
  F32 r;
  for (int i = 0; i < kLanes; ++i) r.v[i] = fn(i);
  return r;
}
template <typename Fn>
inline I32 imap(Fn fn) {
  I32 r;
  for (int i = 0; i < kLanes; ++i) r.v[i] = fn(i);
  return r;
}

inline F32 load(const float* p) { return map([&](int i) { return p[i]; }); }
inline void store(float* p, F32 a) { std::memcpy(p, a.v, sizeof a.v); }
inline F32 set1(float x) { return map([&](int) { return x; }); }
inline F32 zero() { return set1(0); }
inline F32 add(F32 a, F32 b) { return map([&](int i) { return a.v[i] + b.v[i]; }); }
inline F32 sub(F32 a, F32 b) { return map([&](int i) { return a.v[i] - b.v[i]; }); }
inline F32 mul(F32 a, F32 b) { return map([&](int i) { return a.v[i] * b.v[i]; }); }
inline F32 div(F32 a, F32 b) { return map([&](int i) { return a.v[i] / b.v[i]; }); }
inline F32 fma(F32 a, F32 b, F32 c) { return map([&](int i) { return std::fma(a.v[i], b.v[i], c.v[i]); }); }
// As x86 has them: the second operand if either is NaN.
inline F32 max(F32 a, F32 b) { return map([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; }); }
inline F32 min(F32 a, F32 b) { return map([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; }); }
inline F32 abs(F32 a) { return map([&](int i) { return std::fabs(a.v[i]); }); }
inline float reduce_max(F32 a) {
  float top = a.v[0];
  for (const float v : a.v) top = v > top ? v : top;
  return top;
}
// a < b ? yes : no, lane by lane.
inline F32 select_less(F32 a, F32 b, F32 yes, F32 no) { return map([&](int i) { return a.v[i] < b.v[i] ? yes.v[i] : no.v[i]; }); }
inline F32 sqrt(F32 a) { return map([&](int i) { return std::sqrt(a.v[i]); }); }
inline F32 round(F32 a) { return map([&](int i) { return std::nearbyint(a.v[i]); }); }

inline float half_to_float(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000) << 16;
  const uint32_t exponent = (h >> 10) & 0x1f, mantissa = h & 0x3ff;
  uint32_t bits;
  if (exponent == 31) {
    bits = sign | 0x7f800000 | mantissa << 13 | (mantissa ? 0x400000 : 0);
  } else if (exponent == 0) {
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    std::memcpy(&bits, &magnitude, 4);
    bits |= sign;
  } else {
    bits = sign | (exponent + 112) << 23 | mantissa << 13;
  }
  float f;
  std::memcpy(&f, &bits, 4);
  return f;
}
inline uint16_t float_to_half(float f) {
  uint32_t bits;
  std::memcpy(&bits, &f, 4);
  const uint16_t sign = static_cast<uint16_t>(bits >> 16 & 0x8000);
  const uint32_t magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return static_cast<uint16_t>(sign | 0x7e00 | (magnitude >> 13 & 0x3ff));
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  if (magnitude < 0x38800000) {
    float m;
    std::memcpy(&m, &magnitude, 4);
    m += 0.5f;
    std::memcpy(&bits, &m, 4);
    return static_cast<uint16_t>(sign | (bits - 0x3f000000));
  }
  return static_cast<uint16_t>(sign | ((magnitude - 0x38000000 + 0xfff + (magnitude >> 13 & 1)) >> 13));
}
inline F32 load_f16(const uint16_t* p) { return map([&](int i) { return half_to_float(p[i]); }); }
inline void store_f16(uint16_t* p, F32 a) {
  for (int i = 0; i < kLanes; ++i) p[i] = float_to_half(a.v[i]);
}
inline F32 load_bf16(const uint16_t* p) {
  return map([&](int i) {
    const uint32_t bits = static_cast<uint32_t>(p[i]) << 16;
    float f;
    std::memcpy(&f, &bits, 4);
    return f;
  });
}

// lanes of interleaved f16 pairs (first, second, first, …)
inline void load_f16_pairs(const uint8_t* p, F32& first, F32& second) {
  for (int i = 0; i < kLanes; ++i) {
    uint16_t h[2];
    std::memcpy(h, p + 4 * i, 4);
    first.v[i] = half_to_float(h[0]);
    second.v[i] = half_to_float(h[1]);
  }
}

inline I32 iset1(int32_t x) { return imap([&](int) { return x; }); }
inline I32 iload(const int32_t* p) { return imap([&](int i) { return p[i]; }); }
inline void istore(int32_t* p, I32 a) { std::memcpy(p, a.v, sizeof a.v); }
inline I32 iadd(I32 a, I32 b) { return imap([&](int i) { return static_cast<int32_t>(static_cast<uint32_t>(a.v[i]) + static_cast<uint32_t>(b.v[i])); }); }
inline I32 isub(I32 a, I32 b) { return imap([&](int i) { return static_cast<int32_t>(static_cast<uint32_t>(a.v[i]) - static_cast<uint32_t>(b.v[i])); }); }
inline I32 iand(I32 a, I32 b) { return imap([&](int i) { return a.v[i] & b.v[i]; }); }
inline I32 ior(I32 a, I32 b) { return imap([&](int i) { return a.v[i] | b.v[i]; }); }
template <int n>
inline I32 shl(I32 a) { return imap([&](int i) { return static_cast<int32_t>(static_cast<uint32_t>(a.v[i]) << n); }); }
template <int n>
inline I32 shr(I32 a) { return imap([&](int i) { return static_cast<int32_t>(static_cast<uint32_t>(a.v[i]) >> n); }); }
template <int n>
inline I32 sar(I32 a) { return imap([&](int i) { return a.v[i] >> n; }); }
inline I32 shr(I32 a, int n) { return imap([&](int i) { return static_cast<int32_t>(static_cast<uint32_t>(a.v[i]) >> n); }); }
inline F32 to_f32(I32 a) { return map([&](int i) { return static_cast<float>(a.v[i]); }); }
inline I32 to_i32(F32 a) { return imap([&](int i) { return static_cast<int32_t>(std::nearbyint(a.v[i])); }); }
inline F32 bits_f32(I32 a) { F32 r; std::memcpy(r.v, a.v, sizeof r.v); return r; }
inline I32 bits_i32(F32 a) { I32 r; std::memcpy(r.v, a.v, sizeof r.v); return r; }
// The low bytes of the lanes, saturated to int8.
inline void store_i8(int8_t* p, I32 a) {
  for (int i = 0; i < kLanes; ++i) p[i] = static_cast<int8_t>(a.v[i] > 127 ? 127 : a.v[i] < -128 ? -128 : a.v[i]);
}

inline Bytes load_bytes(const uint8_t* p) { Bytes r; std::memcpy(r.v, p, sizeof r.v); return r; }
inline Bytes low_nibbles(Bytes a) { for (auto& b : a.v) b &= 15; return a; }
inline Bytes high_nibbles(Bytes a) { for (auto& b : a.v) b >>= 4; return a; }
// ((a >> shift) & 3) << 4 in every byte.
template <int shift>
inline Bytes two_bits_to_high(Bytes a) { for (auto& b : a.v) b = static_cast<uint8_t>((b >> shift & 3) << 4); return a; }
// Words of 16 bits: 2 * kLanes of them. Sums and products keep their low 16 bits.
template <typename Fn>
inline I16 wmap(Fn fn) {
  I16 r;
  for (int i = 0; i < 2 * kLanes; ++i) r.v[i] = static_cast<uint16_t>(fn(i));
  return r;
}
inline I16 wload(const uint8_t* p) { I16 r; std::memcpy(r.v, p, sizeof r.v); return r; }
inline I16 wset1(int32_t x) { return wmap([&](int) { return x; }); }
inline I16 wadd(I16 a, I16 b) { return wmap([&](int i) { return a.v[i] + b.v[i]; }); }
inline I16 wmul(I16 a, I16 b) { return wmap([&](int i) { return uint32_t{a.v[i]} * b.v[i]; }); }
inline I16 wand(I16 a, I16 b) { return wmap([&](int i) { return a.v[i] & b.v[i]; }); }
template <int n> inline I16 wshr(I16 a) { return wmap([&](int i) { return a.v[i] >> n; }); }
// The first, the second kLanes words, sign-extended.
inline I32 widen_low(I16 a) { return imap([&](int i) { return static_cast<int16_t>(a.v[i]); }); }
inline I32 widen_high(I16 a) { return imap([&](int i) { return static_cast<int16_t>(a.v[kLanes + i]); }); }
inline I32 load_i8(const int8_t* p) { return imap([&](int i) { return p[i]; }); }
// acc + a * x for a and x that fit in 16 bits.
inline I32 imul_add(I32 acc, I32 a, int32_t x) { return imap([&](int i) { return acc.v[i] + a.v[i] * x; }); }

inline Bytes or_bytes(Bytes a, Bytes b) { for (int i = 0; i < 4 * kLanes; ++i) a.v[i] |= b.v[i]; return a; }

template <int kMax, int kWords>
inline I32 dot_block(const Bytes* w, const int8_t* x, I32 init) {
  for (int j = 0; j < kWords; ++j)
    for (int lane = 0; lane < kLanes; ++lane)
      for (int b = 0; b < 4; ++b) init.v[lane] += w[j].v[4 * lane + b] * x[4 * j + b];
  return init;
}

template <int kWords>
struct SignedBlock { Bytes w[kWords]; };
template <int kWords>
inline SignedBlock<kWords> load_signed(const uint8_t* p, int stride) {
  SignedBlock<kWords> r;
  for (int j = 0; j < kWords; ++j) r.w[j] = load_bytes(p + j * stride);
  return r;
}
// negative_sum is -(x[0] + … + x[4 kWords - 1]).
template <int kWords>
inline I32 dot_signed(const SignedBlock<kWords>& w, const int8_t* x, int32_t negative_sum) {
  I32 sum = iset1(0);
  for (int j = 0; j < kWords; ++j)
    for (int lane = 0; lane < kLanes; ++lane)
      for (int b = 0; b < 4; ++b) sum.v[lane] += static_cast<int8_t>(w.w[j].v[4 * lane + b]) * x[4 * j + b];
  return sum;
}

inline I32 signed_start(int32_t) { return iset1(0); }
constexpr bool kWideDots = false;

// One step of the chain by which the int8 peak is defined (planner/probe.h): 4 * kLanes products.
inline I32 int8_step(I32 acc, Bytes w, Bytes x) {
  for (int i = 0; i < 4 * kLanes; ++i) acc.v[i / 4] += w.v[i] * static_cast<int8_t>(x.v[i]);
  return acc;
}
inline Bytes bytes1(int8_t v) { Bytes r; std::memset(r.v, v, sizeof r.v); return r; }
inline int32_t any_lane(I32 a) { return a.v[0]; }

inline void prefetch(const void*) {}
inline void prefetch_far(const void*) {}

}  // namespace venturi::portable
