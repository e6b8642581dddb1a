// Thin products for low-rank adapters: y = x W^T or y += x W^T for rows that lie anywhere, W [N, K] with
// K or N small.
//
//   y[m][n] (+)= sum over k in [k_begin, k_end) of x[m][k] W[n, k]
//
// Reduction tree: acc = fma(W[n,k], x[m][k], acc), k ascending from zero; then, adding, y + acc. An output
// is a lane of its own: it depends on its row of x and its row of W only, never on the rows beside it,
// threads or instruction set.
//
// Layout of W: groups of 16 rows one after another, [N/16][K][16 rows] values, missing rows zero. (The
// layouts of matmul.h interleave four groups, which an A of 16 rows has not.)
// Threads: kernels are pure; callers split rows, groups and k.
#pragma once

#include <cstdint>

#include "kernels/matmul/layout.h"
#include "simd/isa.h"

namespace venturi {

enum class LowRankFormat : int { kF32, kF16, kBF16, kCount };

inline int64_t low_rank_value_bytes(LowRankFormat format) { return format == LowRankFormat::kF32 ? 4 : 2; }
// Of a matrix [n, k] in the layout above.
inline int64_t low_rank_bytes(LowRankFormat format, int64_t n, int64_t k) {
  return (n + kGroupRows - 1) / kGroupRows * kGroupRows * k * low_rank_value_bytes(format);
}

struct LowRankArgs {
  const uint8_t* weights = nullptr;  // group 0
  int64_t n = 0, k = 0;
  int64_t group_begin = 0, group_end = 0;
  int64_t k_begin = 0, k_end = 0;
  int64_t rows = 0;
  const float* const* x = nullptr;  // [rows], each at k = 0
  float* const* y = nullptr;        // [rows], each at n = 0
  bool add = false;                 // to what y holds
};

struct LowRankTable {
  void (*run[static_cast<int>(LowRankFormat::kCount)])(const LowRankArgs&);
};

const LowRankTable& low_rank_table(Isa isa);
inline const LowRankTable& low_rank_table() { return low_rank_table(chosen_isa()); }

// Value (n, k) of a matrix goes to this place of its layout, counted in values.
inline int64_t low_rank_place(int64_t n, int64_t k, int64_t n_in) {
  return (n / kGroupRows * n_in + k) * kGroupRows + n % kGroupRows;
}

}  // namespace venturi
