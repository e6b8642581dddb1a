// Interleaved weight layouts: what the matmul kernels stream.
//
// The rows of W are cut into groups of 16 (the last is padded with zero rows). Within a group the
// units of a block (2 or 4 bytes) are interleaved row by row, so that one vector load brings the
// same unit of 16 rows and a lane is a row:
//   [n_blocks][units_per_block][16 rows][unit_bytes], then, if half_offset >= 0, the f16 scale of
//   each block as a plane of its own: [n_blocks][16 rows] f16.
// A group takes exactly 16 times the bytes of a row: the layout is a permutation of the file's bytes.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace venturi {

constexpr int kGroupRows = 16;

// Ids of the kernels, in the order of kernels.inc.
enum class MatmulKernel : int {
#define VENTURI_MATMUL(name, format, kind) k##name,
#include "kernels/matmul/kernels.inc"
#undef VENTURI_MATMUL
  kCount
};

struct PackedLayout {
  std::string_view name;
  MatmulKernel kernel;
  int block_elems, block_bytes;
  int unit_bytes, units, unit_offset;  // the interleaved part of a block
  int half_offset;                     // of the f16 scale inside a block, or -1
  bool int8_input;                     // inputs are rounded to 8 bits in blocks of 32
};

extern const PackedLayout kLayoutF32, kLayoutF16, kLayoutBF16, kLayoutQ8_0, kLayoutQ4_0, kLayoutQ4_K,
    kLayoutQ6_K;
std::span<const PackedLayout* const> all_layouts();

// Bytes of a group of rows of n_in values.
inline int64_t group_bytes(const PackedLayout& layout, int64_t n_in) {
  const int64_t n_blocks = n_in / layout.block_elems;
  return n_blocks * layout.units * layout.unit_bytes * kGroupRows + (layout.half_offset >= 0 ? (n_blocks + 1) / 2 * 64 : 0);
}

// Packs up to 16 rows (n_rows, each `row_bytes` long, row_stride apart) into one group at `out`,
// group_bytes long. Missing rows become zero bytes, which decode to zero in every layout.
void pack_group(const PackedLayout& layout, const uint8_t* rows, int64_t row_stride, int n_rows,
                int64_t n_in, uint8_t* out);
// The inverse, for one row of a group: `out` receives the row's blocks as the file has them.
void unpack_row(const PackedLayout& layout, const uint8_t* group, int row, int64_t n_in, uint8_t* out);

}  // namespace venturi
