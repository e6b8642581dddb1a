// What unified_maximum_bench.cc measures: generic.h for each instruction set.
#pragma once

#include "kernels/attention/attention.h"

namespace venturi {

// In base 2. A sum of 512 exponentials up to 2^kHighest times a value of an f16 stays finite, and one of
// 2^kLowest keeps what is 2^60 times smaller above the smallest normal number.
constexpr float kUnified = 0, kLowest = -60, kHighest = 100;

// `highest` [n_queries * 16] scratch; see generic.h.
using UnifiedSplit = int (*)(const AttendSplit& a, const AttendSplit& again, float* highest);

namespace avx2 { extern const UnifiedSplit unified; }
namespace avx512 { extern const UnifiedSplit unified; }

}  // namespace venturi
