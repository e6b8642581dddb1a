// y = x W^T, for every weight format.
//
//   y[m, n] = sum over k of x[m, k] W[n, k]      x [M, K] f32, W [N, K] a weight format, y [M, N] f32
//
// Reduction tree. Every output is a lane of its own and its sum runs over k in ascending order, so
// it depends on K and the format only, never on M, N, threads, layout, tile or instruction set:
//   F32, F16, BF16:  acc = fma(W[n,k], x[m,k], acc), k = 0 … K-1.
//   integer formats: x is rounded, row by row, to int8 in blocks of 32 (d = max|x| / 127). For each
//     block b (or half block, where the format's scales span 16 values):
//       s = sum of q_w q_x, exact in int32;   acc = fma(float(s), scale_w * d, acc);
//     then, for formats with a minimum,        acc = fma(min_w, -d * float(sum of q_x), acc).
//     A block of x with max|x| below kLeastInput counts as zeros; one with anything that is not
//     finite has d = NaN and q = 0, so that NaN comes out on every instruction set.
//
// Weights are read in groups of 16 rows (layout.h). Formats without a layout of their own are
// expanded, a group at a time, to tiles (TileGroup) by whoever calls.
// Threads: kernels are pure; callers split [group_begin, group_end) x [m_begin, m_end).
#pragma once

#include <cstdint>

#include "kernels/matmul/layout.h"
#include "simd/isa.h"

namespace venturi {

constexpr float kLeastInput = 0x1p-100f;

// x rounded to int8. Planes are ordered by block first, so that a kernel that walks columns within
// a block reads forward. M is `rows` below.
struct Int8Rows {
  int64_t rows = 0, k = 0;
  int8_t* q = nullptr;           // [K/32][M][32]
  float* d = nullptr;            // [K/32][M]
  int32_t* negative_sum = nullptr;   // [K/32][M]     -(sum of q over the block)
  float* negative_dsum = nullptr;    // [K/32][M]     d * negative_sum
  int32_t* half_sum = nullptr;       // [K/32][2][M]  negative sums of the halves of a block
  float* half_dsum = nullptr;        // [K/32][2][M]

  static int64_t bytes(int64_t rows, int64_t k);  // of the one buffer behind the planes
  static Int8Rows over(void* buffer, int64_t rows, int64_t k);  // buffer 64-byte aligned
};

// x in f32, columns together: panels of `panel` rows of x, [M/panel][K][panel], zero padded.
struct FloatPanels {
  int64_t rows = 0, k = 0;
  int panel = 0;
  float* x = nullptr;

  static int64_t bytes(int64_t rows, int64_t k, int panel);
};

// A group of a format without a layout: expanded to int8 values and f32 scales.
struct TileGroup {
  const int8_t* q;      // [K/32][8 words][16 rows][4]
  const float* scale;   // [K/32][1 or 2][16 rows]
  const float* min;     // likewise, or null
};

struct MatmulArgs {
  const uint8_t* weights = nullptr;  // group 0 of a packed matrix …
  const TileGroup* tile = nullptr;   // … or one expanded group, numbered group_begin
  int64_t n = 0, k = 0;
  int64_t group_begin = 0, group_end = 0;
  const Int8Rows* x_int8 = nullptr;
  const FloatPanels* x_float = nullptr;
  int64_t m_begin = 0, m_end = 0;  // float kernels: m_begin a multiple of the panel
  float* y = nullptr;              // [M, y_stride]
  int64_t y_stride = 0;
};

struct MatmulTable {
  void (*run[static_cast<int>(MatmulKernel::kCount)])(const MatmulArgs&);
  // Rows [m_begin, m_end) of x ([M, stride] f32) rounded into `out`.
  void (*round_int8)(const float* x, int64_t stride, int64_t m_begin, int64_t m_end, bool halves, const Int8Rows& out);
  int float_panel;  // columns of a float panel
};

const MatmulTable& matmul_table(Isa isa);
inline const MatmulTable& matmul_table() { return matmul_table(chosen_isa()); }

// Packs rows [m_begin, m_end) of x into panels; m_begin a multiple of the panel.
void pack_panels(const float* x, int64_t stride, int64_t m_begin, int64_t m_end, const FloatPanels& out);

// The plain definition above, from decoded values: what tests compare with.
// scale and min are per 32 (group 32) or 16 values; min may be null.
void matmul_reference_float(const float* w, const float* x, int64_t m, int64_t n, int64_t k, float* y);
void matmul_reference_int8(const int8_t* q, const float* scale, const float* min, int group, const float* x,
                           int64_t m, int64_t n, int64_t k, float* y);

}  // namespace venturi
