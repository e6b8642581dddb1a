// Loops that measure what a core can do: the denominators of every share of a bound.
#pragma once

#include <cstdint>

#include "simd/isa.h"

namespace venturi {

struct PeakKernels {
  // Runs `steps` rounds of 12 independent chains; returns multiply-adds done. `sink` keeps the work.
  int64_t (*int8)(int64_t steps, float* sink);  // u8 x s8 -> i16 pairs -> i32, added
  int64_t (*f32)(int64_t steps, float* sink);   // fused multiply-adds
  // Reads bytes [0, n), n a multiple of 512, and combines them.
  void (*read)(const uint8_t* p, int64_t n, float* sink);
};

const PeakKernels& peak_kernels(Isa isa);
inline const PeakKernels& peak_kernels() { return peak_kernels(chosen_isa()); }

}  // namespace venturi
