// For the wrapper's tests: every function of a set behind plain pointers. Each set fills a table in
// a file of its own (probe_*_test.cc), so that no code of one set reaches another.
#pragma once

#include <cstdint>

#include "simd/isa.h"

namespace venturi {

// Arrays hold n elements, n a multiple of 16.
struct SimdProbe {
  const char* name;
  int lanes;
  // f32 -> f32
  void (*abs)(const float* a, float* y, int64_t n);
  void (*sqrt)(const float* a, float* y, int64_t n);
  void (*round)(const float* a, float* y, int64_t n);
  void (*exp2)(const float* a, float* y, int64_t n);
  void (*exp)(const float* a, float* y, int64_t n);
  void (*sigmoid)(const float* a, float* y, int64_t n);
  void (*tanh)(const float* a, float* y, int64_t n);
  void (*add)(const float* a, const float* b, float* y, int64_t n);
  void (*sub)(const float* a, const float* b, float* y, int64_t n);
  void (*mul)(const float* a, const float* b, float* y, int64_t n);
  void (*div)(const float* a, const float* b, float* y, int64_t n);
  void (*max)(const float* a, const float* b, float* y, int64_t n);
  void (*min)(const float* a, const float* b, float* y, int64_t n);
  void (*fma)(const float* a, const float* b, const float* c, float* y, int64_t n);
  void (*select_less)(const float* a, const float* b, const float* yes, const float* no, float* y,
                      int64_t n);
  // y[i] = maximum of a[16 i .. 16 i + 15]
  void (*reduce_max)(const float* a, float* y, int64_t n);
  void (*constants)(float* y);  // [32]: set1(2.5), zero()

  // 16-bit floats
  void (*load_f16)(const uint16_t* a, float* y, int64_t n);
  void (*store_f16)(const float* a, uint16_t* y, int64_t n);
  void (*load_bf16)(const uint16_t* a, float* y, int64_t n);
  void (*load_f16_pairs)(const uint8_t* a, float* first, float* second, int64_t n);

  // integers
  void (*iadd)(const int32_t* a, const int32_t* b, int32_t* y, int64_t n);
  void (*isub)(const int32_t* a, const int32_t* b, int32_t* y, int64_t n);
  void (*iand)(const int32_t* a, const int32_t* b, int32_t* y, int64_t n);
  void (*ior)(const int32_t* a, const int32_t* b, int32_t* y, int64_t n);
  void (*shl3)(const int32_t* a, int32_t* y, int64_t n);
  void (*shl23)(const int32_t* a, int32_t* y, int64_t n);
  void (*shr4)(const int32_t* a, int32_t* y, int64_t n);
  void (*sar24)(const int32_t* a, int32_t* y, int64_t n);
  void (*shr_by)(const int32_t* a, int by, int32_t* y, int64_t n);
  void (*to_f32)(const int32_t* a, float* y, int64_t n);
  void (*to_i32)(const float* a, int32_t* y, int64_t n);
  void (*bits_round_trip)(const float* a, float* y, int64_t n);
  void (*store_i8)(const int32_t* a, int8_t* y, int64_t n);
  void (*iset1)(int32_t x, int32_t* y);  // [16]

  // words of 16 bits, n a multiple of 32
  void (*wadd)(const uint16_t* a, const uint16_t* b, uint16_t* y, int64_t n);
  void (*wmul)(const uint16_t* a, const uint16_t* b, uint16_t* y, int64_t n);
  void (*wand)(const uint16_t* a, const uint16_t* b, uint16_t* y, int64_t n);
  void (*wshr4)(const uint16_t* a, uint16_t* y, int64_t n);
  void (*widen)(const uint16_t* a, int32_t* y, int64_t n);
  void (*load_i8)(const int8_t* a, int32_t* y, int64_t n);
  void (*imul_add)(const int32_t* acc, const int32_t* a, int32_t x, int32_t* y, int64_t n);

  // bytes, n a multiple of 64
  void (*low_nibbles)(const uint8_t* a, uint8_t* y, int64_t n);
  void (*high_nibbles)(const uint8_t* a, uint8_t* y, int64_t n);
  void (*two_bits)(int shift, const uint8_t* a, uint8_t* y, int64_t n);  // shift 0, 2, 4, 6
  void (*or_bytes)(const uint8_t* a, const uint8_t* b, uint8_t* y, int64_t n);
  void (*bytes1)(int8_t v, uint8_t* y);  // [64]

  // Products over [words][16 rows][4] bytes and 4 * words values of x; y [16], init [16].
  void (*dot_4bit)(const uint8_t* w, const int8_t* x, const int32_t* init,
                   int32_t* y);  // 8 words, codes to 15
  void (*dot_6bit)(const uint8_t* w, const int8_t* x, const int32_t* init,
                   int32_t* y);  // 4 words, codes to 63
  void (*dot_7bit)(const uint8_t* w, const int8_t* x, const int32_t* init,
                   int32_t* y);  // 8 words, codes to 127
  void (*dot_signed8)(const uint8_t* w, const int8_t* x, int32_t negative_sum, int32_t* y);
  void (*dot_signed4)(const uint8_t* w, const int8_t* x, int32_t negative_sum, int32_t* y);
  // acc [16] + products of w, x [64]
  void (*int8_step)(const int32_t* acc, const uint8_t* w, const uint8_t* x, int32_t* y);
};

// Null where this build has none.
const SimdProbe* simd_probe(Isa isa);

}  // namespace venturi
