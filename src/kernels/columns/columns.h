// y += x W^T over a few columns of W: the product of an input that is mostly zeros.
//
//   y[m, n] += sum over the active k of x[m, k] W[n, k]     y [M, N] f32, x [M, K] sparse
//
// Here W lies by columns, one for each k (a neuron of a feed-forward), apart from one another and none
// beside those that are needed. Only the codes move: the scales of an integer format belong to blocks
// of 32 columns and stay together. Reduction tree: that of matmul.h, to the bit. An x[m, k] that is
// zero, or rounds to the code zero, contributes exactly nothing there, so leaving it out changes no
// bit, provided that weights and scales are finite.
//
// Layout of a column, N rounded up to strips of 128 outputs:
//   Q4_0            strip: 32 words of 16 bits; nibble p of word t is the code of output 32 p + t
//   Q8_0            codes in order
//   F32, F16, BF16  values in order
// Scales: f16 [K/32][N rounded up]. Threads: kernels are pure; callers split the strips.
#pragma once

#include <cstdint>

#include "kernels/matmul/layout.h"
#include "simd/isa.h"

namespace venturi {

constexpr int64_t kStripOutputs = 128;
constexpr int64_t kColumnBlock = 32;  // columns that share scales

enum class ColumnKernel : int {
#define VENTURI_COLUMNS(name, format, kind) k##name,
#include "kernels/columns/kernels.inc"
#undef VENTURI_COLUMNS
  kCount,
  kNone = -1
};

// The kernel of weights in this layout; kNone if there is none. Null: no layout, none.
ColumnKernel column_kernel(const PackedLayout* layout);
inline int64_t padded_outputs(int64_t n) { return (n + kStripOutputs - 1) / kStripOutputs * kStripOutputs; }
int64_t column_bytes(ColumnKernel kernel, int64_t n);                // of one column of n outputs
int64_t column_scale_bytes(ColumnKernel kernel, int64_t n, int64_t k);  // of all scales; 0 of float formats

// Columns [block * 32, block * 32 + count) of a matrix of n rows as in the file, `row_bytes` apart:
// column i of them to out + i * stride, and the block's scales (may be null for float formats).
void split_columns(ColumnKernel kernel, const uint8_t* rows, int64_t row_bytes, int64_t n, int64_t block,
                   int64_t count, uint8_t* out, int64_t stride, uint16_t* scales);

// An active column of a row of x.
struct ColumnEntry {
  uint32_t column;  // into ColumnsArgs::columns
  int32_t value;    // code of x; the bits of x for float formats
};

struct ColumnsArgs {
  const uint8_t* const* columns = nullptr;
  const uint16_t* const* scales = nullptr;  // [blocks]: of each block, [N rounded up]; null for float formats
  // Entries of row m in block b, columns ascending: [first[i], first[i + 1]), i = m * (blocks + 1) + b.
  const ColumnEntry* entries = nullptr;
  const uint32_t* first = nullptr;
  const float* d = nullptr;               // [blocks][M]: of the codes of x; 0 where they are all zero
  const int32_t* negative_sum = nullptr;  // [blocks][M]
  int64_t rows = 0, blocks = 0, n = 0;
  int64_t strip_begin = 0, strip_end = 0;
  float* y = nullptr;  // [M, y_stride], what earlier blocks came to
  int64_t y_stride = 0;
};

struct ColumnsTable {
  void (*run[static_cast<int>(ColumnKernel::kCount)])(const ColumnsArgs&);
};

const ColumnsTable& columns_table(Isa isa);
inline const ColumnsTable& columns_table() { return columns_table(chosen_isa()); }

}  // namespace venturi
