// AVX2 with FMA and F16C (Haswell, Zen and later).
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace venturi::avx2 {

constexpr int kLanes = 8;
constexpr const char* kName = "avx2";

using F32 = __m256;
using I32 = __m256i;
using Bytes = __m256i;
using I16 = __m256i;

inline F32 load(const float* p) { return _mm256_loadu_ps(p); }
inline void store(float* p, F32 a) { _mm256_storeu_ps(p, a); }
inline F32 set1(float x) { return _mm256_set1_ps(x); }
inline F32 zero() { return _mm256_setzero_ps(); }
inline F32 add(F32 a, F32 b) { return _mm256_add_ps(a, b); }
inline F32 sub(F32 a, F32 b) { return _mm256_sub_ps(a, b); }
inline F32 mul(F32 a, F32 b) { return _mm256_mul_ps(a, b); }
inline F32 div(F32 a, F32 b) { return _mm256_div_ps(a, b); }
inline F32 fma(F32 a, F32 b, F32 c) { return _mm256_fmadd_ps(a, b, c); }
inline F32 max(F32 a, F32 b) { return _mm256_max_ps(a, b); }
inline F32 min(F32 a, F32 b) { return _mm256_min_ps(a, b); }
inline F32 abs(F32 a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
inline float reduce_max(F32 a) {
  __m128 v = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  v = _mm_max_ps(v, _mm_movehl_ps(v, v));
  return _mm_cvtss_f32(_mm_max_ss(v, _mm_shuffle_ps(v, v, 1)));
}
// a < b ? yes : no, lane by lane.
inline F32 select_less(F32 a, F32 b, F32 yes, F32 no) { return _mm256_blendv_ps(no, yes, _mm256_cmp_ps(a, b, _CMP_LT_OQ)); }
inline F32 sqrt(F32 a) { return _mm256_sqrt_ps(a); }
inline F32 round(F32 a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }

inline F32 load_f16(const uint16_t* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
inline void store_f16(uint16_t* p, F32 a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT));
}
inline F32 load_bf16(const uint16_t* p) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(
      _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))), 16));
}

// kLanes pairs of f16: the first of each pair, the second of each pair.
inline void load_f16_pairs(const uint8_t* p, F32& first, F32& second) {
  const __m256i v = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  const __m256i low = _mm256_and_si256(v, _mm256_set1_epi32(0xffff)), high = _mm256_srli_epi32(v, 16);
  const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(low, high), 0xd8);
  first = _mm256_cvtph_ps(_mm256_castsi256_si128(packed));
  second = _mm256_cvtph_ps(_mm256_extracti128_si256(packed, 1));
}

inline I32 iset1(int32_t x) { return _mm256_set1_epi32(x); }
inline I32 iload(const int32_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
inline void istore(int32_t* p, I32 a) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), a); }
inline I32 iadd(I32 a, I32 b) { return _mm256_add_epi32(a, b); }
inline I32 isub(I32 a, I32 b) { return _mm256_sub_epi32(a, b); }
inline I32 iand(I32 a, I32 b) { return _mm256_and_si256(a, b); }
inline I32 ior(I32 a, I32 b) { return _mm256_or_si256(a, b); }
template <int n> inline I32 shl(I32 a) { return _mm256_slli_epi32(a, n); }
template <int n> inline I32 shr(I32 a) { return _mm256_srli_epi32(a, n); }
template <int n> inline I32 sar(I32 a) { return _mm256_srai_epi32(a, n); }
inline I32 shr(I32 a, int n) { return _mm256_srl_epi32(a, _mm_cvtsi32_si128(n)); }
inline F32 to_f32(I32 a) { return _mm256_cvtepi32_ps(a); }
inline I32 to_i32(F32 a) { return _mm256_cvtps_epi32(a); }
inline F32 bits_f32(I32 a) { return _mm256_castsi256_ps(a); }
inline I32 bits_i32(F32 a) { return _mm256_castps_si256(a); }
inline void store_i8(int8_t* p, I32 a) {
  const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
  const __m128i bytes = _mm_packs_epi16(words, words);
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), bytes);
}

inline Bytes load_bytes(const uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
inline Bytes low_nibbles(Bytes a) { return _mm256_and_si256(a, _mm256_set1_epi8(15)); }
inline Bytes high_nibbles(Bytes a) { return _mm256_and_si256(_mm256_srli_epi16(a, 4), _mm256_set1_epi8(15)); }
template <int shift>
inline Bytes two_bits_to_high(Bytes a) {
  const __m256i mask = _mm256_set1_epi8(0x30);
  if constexpr (shift < 4) return _mm256_and_si256(_mm256_slli_epi16(a, 4 - shift), mask);
  if constexpr (shift == 4) return _mm256_and_si256(a, mask);
  if constexpr (shift > 4) return _mm256_and_si256(_mm256_srli_epi16(a, shift - 4), mask);
}
// Words of 16 bits: 2 * kLanes of them. Sums and products keep their low 16 bits.
inline I16 wload(const uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
inline I16 wset1(int32_t x) { return _mm256_set1_epi16(static_cast<int16_t>(x)); }
inline I16 wadd(I16 a, I16 b) { return _mm256_add_epi16(a, b); }
inline I16 wmul(I16 a, I16 b) { return _mm256_mullo_epi16(a, b); }
inline I16 wand(I16 a, I16 b) { return _mm256_and_si256(a, b); }
template <int n> inline I16 wshr(I16 a) { return _mm256_srli_epi16(a, n); }
// The first, the second kLanes words, sign-extended.
inline I32 widen_low(I16 a) { return _mm256_cvtepi16_epi32(_mm256_castsi256_si128(a)); }
inline I32 widen_high(I16 a) { return _mm256_cvtepi16_epi32(_mm256_extracti128_si256(a, 1)); }
inline I32 load_i8(const int8_t* p) { return _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))); }
// acc + a * x for a and x that fit in 16 bits.
inline I32 imul_add(I32 acc, I32 a, int32_t x) {
  return _mm256_add_epi32(acc, _mm256_madd_epi16(a, _mm256_set1_epi32(x & 0xffff)));
}

inline Bytes or_bytes(Bytes a, Bytes b) { return _mm256_or_si256(a, b); }

inline __m256i broadcast_word(const int8_t* x) {
  int32_t word;
  std::memcpy(&word, x, 4);
  return _mm256_set1_epi32(word);
}

// vpmaddubsw adds two products in 16 bits: 2 * kMax * 127. As many of those as fit 32767 are added
// before they are widened: 8 for 4-bit codes, 4 for 5-bit, 2 for 6-bit, 1 for 7-bit.
template <int kMax, int kWords>
inline I32 dot_block(const Bytes* w, const int8_t* x, I32 init) {
  constexpr int kChain = 32767 / (2 * kMax * 127);
  static_assert(kChain >= 1);
  const __m256i ones = _mm256_set1_epi16(1);
  for (int j = 0; j < kWords; j += kChain) {
    __m256i sum16 = _mm256_maddubs_epi16(w[j], broadcast_word(x + 4 * j));
    for (int i = j + 1; i < j + kChain && i < kWords; ++i)
      sum16 = _mm256_add_epi16(sum16, _mm256_maddubs_epi16(w[i], broadcast_word(x + 4 * i)));
    init = _mm256_add_epi32(init, _mm256_madd_epi16(sum16, ones));
  }
  return init;
}

// Signed weights: |w| is the unsigned operand and x takes w's sign. |-128| is 128 as a byte, and
// 2 * 128 * 127 still fits 16 bits; x is never -128.
template <int kWords>
struct SignedBlock { __m256i w[kWords]; };
template <int kWords>
inline SignedBlock<kWords> load_signed(const uint8_t* p, int stride) {
  SignedBlock<kWords> r;
  for (int j = 0; j < kWords; ++j) r.w[j] = load_bytes(p + j * stride);
  return r;
}
template <int kWords>
inline I32 dot_signed(const SignedBlock<kWords>& w, const int8_t* x, int32_t) {
  const __m256i ones = _mm256_set1_epi16(1);
  __m256i sum = _mm256_setzero_si256();
  for (int j = 0; j < kWords; ++j) {
    const __m256i magnitude = _mm256_abs_epi8(w.w[j]);
    const __m256i signed_x = _mm256_sign_epi8(broadcast_word(x + 4 * j), w.w[j]);
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(magnitude, signed_x), ones));
  }
  return sum;
}

inline I32 signed_start(int32_t) { return _mm256_setzero_si256(); }
constexpr bool kWideDots = false;

// One step of the chain by which the int8 peak is defined (planner/probe.h): 32 products.
inline I32 int8_step(I32 acc, Bytes w, Bytes x) {
  return _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(w, x), _mm256_set1_epi16(1)));
}
inline Bytes bytes1(int8_t v) { return _mm256_set1_epi8(v); }
inline int32_t any_lane(I32 a) { return _mm256_cvtsi256_si32(a); }

inline void prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }
inline void prefetch_far(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T2); }

}  // namespace venturi::avx2
