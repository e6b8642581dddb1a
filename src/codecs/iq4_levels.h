// The 16 levels of IQ4_NL and IQ4_XS.
#pragma once

#include "codecs/scale_search.h"

namespace venturi {

inline constexpr int8_t kIq4Levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                          1,    13,   25,  38,  53,  69,  89,  113};

struct Iq4Levels {
  static constexpr float lo = -127, hi = 113;
  search::F4 nearest(search::F4 y) const {
    // Up one level for every midpoint passed. Levels and midpoints are exact in f32.
    search::F4 level = search::splat(kIq4Levels[0]);
    for (int i = 1; i < 16; ++i) {
      const float middle = 0.5f * static_cast<float>(kIq4Levels[i - 1] + kIq4Levels[i]);
      const float step = static_cast<float>(kIq4Levels[i] - kIq4Levels[i - 1]);
      level += y > middle ? search::splat(step) : search::F4{};
    }
    return level;
  }
};

// 32 levels from 16 bytes, code i in the low and code i + 16 in the high four bits.
[[gnu::always_inline]] static inline void unpack_iq4(const uint8_t* p, int8_t* q) {
  // Up one level for every code passed, on 16 codes at once: a table lookup each is six times
  // slower, and the byte shuffle that would be faster still is not in the baseline instruction set.
  typedef int8_t B16 __attribute__((vector_size(16)));
  typedef uint8_t U16 __attribute__((vector_size(16)));
  U16 bytes;
  std::memcpy(&bytes, p, 16);
  const B16 code[2] = {reinterpret_cast<B16>(bytes & 15), reinterpret_cast<B16>(bytes >> 4)};
  for (int half = 0; half < 2; ++half) {
    B16 level = B16{} + kIq4Levels[0];
#pragma GCC unroll 15
    for (int k = 1; k < 16; ++k)
      level += (code[half] >= static_cast<int8_t>(k)) &
               static_cast<int8_t>(kIq4Levels[k] - kIq4Levels[k - 1]);
    std::memcpy(q + 16 * half, &level, 16);
  }
}

[[maybe_unused]] static void pack_iq4(const int8_t* q, uint8_t* p) {
  int8_t code[32];
  for (int i = 0; i < 32; ++i) {
    code[i] = 0;
    while (kIq4Levels[code[i]] != q[i]) ++code[i];
  }
  block::pack_nibbles(code, 32, 0, p);
}

}  // namespace venturi
