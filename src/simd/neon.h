// AArch64 Advanced SIMD (baseline ARMv8.0).
#pragma once

#include <arm_neon.h>

#include <cstdint>
#include <cstring>

namespace venturi::neon {

constexpr int kLanes = 4;
constexpr const char* kName = "neon";

using F32 = float32x4_t;
using I32 = int32x4_t;
using Bytes = uint8x16_t;
using I16 = int16x8_t;

inline F32 load(const float* p) { return vld1q_f32(p); }
inline void store(float* p, F32 a) { vst1q_f32(p, a); }
inline F32 set1(float x) { return vdupq_n_f32(x); }
inline F32 zero() { return vdupq_n_f32(0); }
inline F32 add(F32 a, F32 b) { return vaddq_f32(a, b); }
inline F32 sub(F32 a, F32 b) { return vsubq_f32(a, b); }
inline F32 mul(F32 a, F32 b) { return vmulq_f32(a, b); }
inline F32 div(F32 a, F32 b) { return vdivq_f32(a, b); }
inline F32 fma(F32 a, F32 b, F32 c) { return vfmaq_f32(c, a, b); }
// By comparison, so that NaN behaves as on x86: the second operand.
inline F32 max(F32 a, F32 b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
inline F32 min(F32 a, F32 b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
inline F32 abs(F32 a) { return vabsq_f32(a); }
inline float reduce_max(F32 a) { return vmaxvq_f32(a); }
// a < b ? yes : no, lane by lane.
inline F32 select_less(F32 a, F32 b, F32 yes, F32 no) { return vbslq_f32(vcltq_f32(a, b), yes, no); }
inline F32 sqrt(F32 a) { return vsqrtq_f32(a); }
inline F32 round(F32 a) { return vrndnq_f32(a); }

inline F32 load_f16(const uint16_t* p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }
inline void store_f16(uint16_t* p, F32 a) { vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(a))); }
inline F32 load_bf16(const uint16_t* p) { return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16)); }

// kLanes pairs of f16: the first of each pair, the second of each pair.
inline void load_f16_pairs(const uint8_t* p, F32& first, F32& second) {
  const uint16x4x2_t v = vld2_u16(reinterpret_cast<const uint16_t*>(p));
  first = vcvt_f32_f16(vreinterpret_f16_u16(v.val[0]));
  second = vcvt_f32_f16(vreinterpret_f16_u16(v.val[1]));
}

inline I32 iset1(int32_t x) { return vdupq_n_s32(x); }
inline I32 iload(const int32_t* p) { return vld1q_s32(p); }
inline void istore(int32_t* p, I32 a) { vst1q_s32(p, a); }
inline I32 iadd(I32 a, I32 b) { return vaddq_s32(a, b); }
inline I32 isub(I32 a, I32 b) { return vsubq_s32(a, b); }
inline I32 iand(I32 a, I32 b) { return vandq_s32(a, b); }
inline I32 ior(I32 a, I32 b) { return vorrq_s32(a, b); }
inline I32 shr(I32 a, int n) { return vreinterpretq_s32_u32(vshlq_u32(vreinterpretq_u32_s32(a), vdupq_n_s32(-n))); }
template <int n> inline I32 shl(I32 a) { return vshlq_s32(a, vdupq_n_s32(n)); }
template <int n> inline I32 shr(I32 a) { return shr(a, n); }
template <int n> inline I32 sar(I32 a) { return vshlq_s32(a, vdupq_n_s32(-n)); }
inline F32 to_f32(I32 a) { return vcvtq_f32_s32(a); }
inline I32 to_i32(F32 a) { return vcvtnq_s32_f32(a); }
inline F32 bits_f32(I32 a) { return vreinterpretq_f32_s32(a); }
inline I32 bits_i32(F32 a) { return vreinterpretq_s32_f32(a); }
inline void store_i8(int8_t* p, I32 a) {
  const int16x4_t words = vqmovn_s32(a);
  const int8x8_t bytes = vqmovn_s16(vcombine_s16(words, words));
  const int32_t packed = vget_lane_s32(vreinterpret_s32_s8(bytes), 0);
  std::memcpy(p, &packed, 4);
}

inline Bytes load_bytes(const uint8_t* p) { return vld1q_u8(p); }
inline Bytes low_nibbles(Bytes a) { return vandq_u8(a, vdupq_n_u8(15)); }
inline Bytes high_nibbles(Bytes a) { return vshrq_n_u8(a, 4); }
template <int shift>
inline Bytes two_bits_to_high(Bytes a) {
  return vshlq_n_u8(vandq_u8(vshlq_u8(a, vdupq_n_s8(-shift)), vdupq_n_u8(3)), 4);
}
// Words of 16 bits: 2 * kLanes of them. Sums and products keep their low 16 bits.
inline I16 wload(const uint8_t* p) { return vreinterpretq_s16_u8(vld1q_u8(p)); }
inline I16 wset1(int32_t x) { return vdupq_n_s16(static_cast<int16_t>(x)); }
inline I16 wadd(I16 a, I16 b) { return vaddq_s16(a, b); }
inline I16 wmul(I16 a, I16 b) { return vmulq_s16(a, b); }
inline I16 wand(I16 a, I16 b) { return vandq_s16(a, b); }
template <int n> inline I16 wshr(I16 a) { return vreinterpretq_s16_u16(vshrq_n_u16(vreinterpretq_u16_s16(a), n)); }
// The first, the second kLanes words, sign-extended.
inline I32 widen_low(I16 a) { return vmovl_s16(vget_low_s16(a)); }
inline I32 widen_high(I16 a) { return vmovl_s16(vget_high_s16(a)); }
inline I32 load_i8(const int8_t* p) {
  int32_t word;
  std::memcpy(&word, p, 4);
  return vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_s32(vdup_n_s32(word)))));
}
// acc + a * x for a and x that fit in 16 bits.
inline I32 imul_add(I32 acc, I32 a, int32_t x) { return vmlaq_n_s32(acc, a, x); }

inline Bytes or_bytes(Bytes a, Bytes b) { return vorrq_u8(a, b); }

inline I32 dot_words(I32 sum, int8x16_t w, const int8_t* x) {
  int32_t word;
  std::memcpy(&word, x, 4);
  const int8x16_t v = vreinterpretq_s8_s32(vdupq_n_s32(word));
  const int16x8_t low = vmull_s8(vget_low_s8(w), vget_low_s8(v));
  const int16x8_t high = vmull_s8(vget_high_s8(w), vget_high_s8(v));
  return vaddq_s32(sum, vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high)));
}

// Codes up to 127 are the same as signed bytes.
template <int kMax, int kWords>
inline I32 dot_block(const Bytes* w, const int8_t* x, I32 init) {
  static_assert(kMax <= 127);
  for (int j = 0; j < kWords; ++j) init = dot_words(init, vreinterpretq_s8_u8(w[j]), x + 4 * j);
  return init;
}

template <int kWords>
struct SignedBlock { int8x16_t w[kWords]; };
template <int kWords>
inline SignedBlock<kWords> load_signed(const uint8_t* p, int stride) {
  SignedBlock<kWords> r;
  for (int j = 0; j < kWords; ++j) r.w[j] = vreinterpretq_s8_u8(load_bytes(p + j * stride));
  return r;
}
template <int kWords>
inline I32 dot_signed(const SignedBlock<kWords>& w, const int8_t* x, int32_t) {
  I32 sum = vdupq_n_s32(0);
  for (int j = 0; j < kWords; ++j) sum = dot_words(sum, w.w[j], x + 4 * j);
  return sum;
}

inline I32 signed_start(int32_t) { return vdupq_n_s32(0); }
constexpr bool kWideDots = false;

// One step of the chain by which the int8 peak is defined (planner/probe.h): 16 products.
inline I32 int8_step(I32 acc, Bytes w, Bytes x) {
  const int8x16_t a = vreinterpretq_s8_u8(w), b = vreinterpretq_s8_u8(x);
  const int16x8_t sum = vmlal_high_s8(vmull_s8(vget_low_s8(a), vget_low_s8(b)), a, b);
  return vpadalq_s16(acc, sum);
}
inline Bytes bytes1(int8_t v) { return vdupq_n_u8(static_cast<uint8_t>(v)); }
inline int32_t any_lane(I32 a) { return vgetq_lane_s32(a, 0); }

inline void prefetch(const void* p) { __builtin_prefetch(p); }
inline void prefetch_far(const void* p) { __builtin_prefetch(p, 0, 2); }

}  // namespace venturi::neon
