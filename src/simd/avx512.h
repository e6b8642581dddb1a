// AVX-512 F, BW, DQ, VL and VNNI (Ice Lake, Zen 4 and later).
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace venturi::avx512 {

constexpr int kLanes = 16;
constexpr const char* kName = "avx512";

using F32 = __m512;
using I32 = __m512i;
using Bytes = __m512i;
using I16 = __m512i;

inline F32 load(const float* p) { return _mm512_loadu_ps(p); }
inline void store(float* p, F32 a) { _mm512_storeu_ps(p, a); }
inline F32 set1(float x) { return _mm512_set1_ps(x); }
inline F32 zero() { return _mm512_setzero_ps(); }
inline F32 add(F32 a, F32 b) { return _mm512_add_ps(a, b); }
inline F32 sub(F32 a, F32 b) { return _mm512_sub_ps(a, b); }
inline F32 mul(F32 a, F32 b) { return _mm512_mul_ps(a, b); }
inline F32 div(F32 a, F32 b) { return _mm512_div_ps(a, b); }
inline F32 fma(F32 a, F32 b, F32 c) { return _mm512_fmadd_ps(a, b, c); }
inline F32 max(F32 a, F32 b) { return _mm512_max_ps(a, b); }
inline F32 min(F32 a, F32 b) { return _mm512_min_ps(a, b); }
inline F32 abs(F32 a) { return _mm512_abs_ps(a); }
inline float reduce_max(F32 a) { return _mm512_reduce_max_ps(a); }
// a < b ? yes : no, lane by lane.
inline F32 select_less(F32 a, F32 b, F32 yes, F32 no) { return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), no, yes); }
inline F32 sqrt(F32 a) { return _mm512_sqrt_ps(a); }
inline F32 round(F32 a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }

inline F32 load_f16(const uint16_t* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
inline void store_f16(uint16_t* p, F32 a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT));
}
inline F32 load_bf16(const uint16_t* p) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(
      _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))), 16));
}

// kLanes pairs of f16: the first of each pair, the second of each pair.
inline void load_f16_pairs(const uint8_t* p, F32& first, F32& second) {
  const __m512i v = _mm512_loadu_si512(p);
  first = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(v));
  second = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32(v, 16)));
}

inline I32 iset1(int32_t x) { return _mm512_set1_epi32(x); }
inline I32 iload(const int32_t* p) { return _mm512_loadu_si512(p); }
inline void istore(int32_t* p, I32 a) { _mm512_storeu_si512(p, a); }
inline I32 iadd(I32 a, I32 b) { return _mm512_add_epi32(a, b); }
inline I32 isub(I32 a, I32 b) { return _mm512_sub_epi32(a, b); }
inline I32 iand(I32 a, I32 b) { return _mm512_and_si512(a, b); }
inline I32 ior(I32 a, I32 b) { return _mm512_or_si512(a, b); }
template <int n> inline I32 shl(I32 a) { return _mm512_slli_epi32(a, n); }
template <int n> inline I32 shr(I32 a) { return _mm512_srli_epi32(a, n); }
template <int n> inline I32 sar(I32 a) { return _mm512_srai_epi32(a, n); }
inline I32 shr(I32 a, int n) { return _mm512_srl_epi32(a, _mm_cvtsi32_si128(n)); }
inline F32 to_f32(I32 a) { return _mm512_cvtepi32_ps(a); }
inline I32 to_i32(F32 a) { return _mm512_cvtps_epi32(a); }
inline F32 bits_f32(I32 a) { return _mm512_castsi512_ps(a); }
inline I32 bits_i32(F32 a) { return _mm512_castps_si512(a); }
inline void store_i8(int8_t* p, I32 a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtsepi32_epi8(a));
}

inline Bytes load_bytes(const uint8_t* p) { return _mm512_loadu_si512(p); }
inline Bytes low_nibbles(Bytes a) { return _mm512_and_si512(a, _mm512_set1_epi8(15)); }
inline Bytes high_nibbles(Bytes a) { return _mm512_and_si512(_mm512_srli_epi16(a, 4), _mm512_set1_epi8(15)); }
template <int shift>
inline Bytes two_bits_to_high(Bytes a) {
  const __m512i mask = _mm512_set1_epi8(0x30);
  if constexpr (shift < 4) return _mm512_and_si512(_mm512_slli_epi16(a, 4 - shift), mask);
  if constexpr (shift == 4) return _mm512_and_si512(a, mask);
  if constexpr (shift > 4) return _mm512_and_si512(_mm512_srli_epi16(a, shift - 4), mask);
}
// Words of 16 bits: 2 * kLanes of them. Sums and products keep their low 16 bits.
inline I16 wload(const uint8_t* p) { return _mm512_loadu_si512(p); }
inline I16 wset1(int32_t x) { return _mm512_set1_epi16(static_cast<int16_t>(x)); }
inline I16 wadd(I16 a, I16 b) { return _mm512_add_epi16(a, b); }
inline I16 wmul(I16 a, I16 b) { return _mm512_mullo_epi16(a, b); }
inline I16 wand(I16 a, I16 b) { return _mm512_and_si512(a, b); }
template <int n> inline I16 wshr(I16 a) { return _mm512_srli_epi16(a, n); }
// The first, the second kLanes words, sign-extended.
inline I32 widen_low(I16 a) { return _mm512_cvtepi16_epi32(_mm512_castsi512_si256(a)); }
inline I32 widen_high(I16 a) { return _mm512_cvtepi16_epi32(_mm512_extracti64x4_epi64(a, 1)); }
inline I32 load_i8(const int8_t* p) { return _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
// acc + a * x for a and x that fit in 16 bits.
inline I32 imul_add(I32 acc, I32 a, int32_t x) { return _mm512_dpwssd_epi32(acc, a, _mm512_set1_epi32(x & 0xffff)); }

inline Bytes or_bytes(Bytes a, Bytes b) { return _mm512_or_si512(a, b); }

inline __m512i broadcast_word(const int8_t* x) {
  int32_t word;
  std::memcpy(&word, x, 4);
  return _mm512_set1_epi32(word);
}

// vpdpbusd adds four u8 x s8 products to 32 bits without saturating: any kMax up to 255.
template <int kMax, int kWords>
inline I32 dot_block(const Bytes* w, const int8_t* x, I32 init) {
  for (int j = 0; j < kWords; ++j) init = _mm512_dpbusd_epi32(init, w[j], broadcast_word(x + 4 * j));
  return init;
}

// One word of a dot product against bytes that stay in their register, where one instruction does it.
constexpr bool kWideDots = true;
inline I32 dot_word(I32 acc, Bytes w, Bytes x) { return _mm512_dpbusd_epi32(acc, w, x); }
inline Bytes held_word(const int8_t* x) {
  Bytes word = broadcast_word(x);
  asm("" : "+v"(word));  // or the compiler loads it again for every product
  return word;
}

// Signed weights are shifted to unsigned, w + 128, and 128 sum(x) is taken off again.
template <int kWords>
struct SignedBlock { __m512i w[kWords]; };
template <int kWords>
inline SignedBlock<kWords> load_signed(const uint8_t* p, int stride) {
  SignedBlock<kWords> r;
  for (int j = 0; j < kWords; ++j) r.w[j] = _mm512_xor_si512(load_bytes(p + j * stride), _mm512_set1_epi8(-128));
  return r;
}
inline I32 signed_start(int32_t negative_sum) { return _mm512_slli_epi32(_mm512_set1_epi32(negative_sum), 7); }
template <int kWords>
inline I32 dot_signed(const SignedBlock<kWords>& w, const int8_t* x, int32_t negative_sum) {
  I32 sum = signed_start(negative_sum);
  for (int j = 0; j < kWords; ++j) sum = _mm512_dpbusd_epi32(sum, w.w[j], broadcast_word(x + 4 * j));
  return sum;
}

// One step of the chain by which the int8 peak is defined (planner/probe.h): 64 products.
inline I32 int8_step(I32 acc, Bytes w, Bytes x) {
  return _mm512_add_epi32(acc, _mm512_madd_epi16(_mm512_maddubs_epi16(w, x), _mm512_set1_epi16(1)));
}
inline Bytes bytes1(int8_t v) { return _mm512_set1_epi8(v); }
inline int32_t any_lane(I32 a) { return _mm512_cvtsi512_si32(a); }

inline void prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }
inline void prefetch_far(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T2); }

}  // namespace venturi::avx512
