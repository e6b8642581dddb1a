// Interleaved weight layouts: what the matmul kernels stream.
//
// The rows of W are cut into groups of 16 (the last is padded with zero rows). The units of a block
// (2 or 4 bytes) are interleaved row by row, so that one vector load brings the same unit of 16 rows
// and a lane is a row:
//   integer formats, group by group: [n_blocks][units_per_block][16 rows][unit_bytes]. Where a
//     block's f16 scale would break the alignment (half_offset >= 0), blocks go in pairs with their
//     scales in front, one cache line: [2][16 rows] f16, block, block; an odd last block keeps the
//     whole line.
//   float formats, four groups together: [n_in][4 groups][16 rows][unit_bytes]. A float row has no
//     blocks to make a run of lines of, and a kernel needs several groups at once to cover the
//     latency of its sums: together they are still one stream, which the prefetchers follow.
// Every kernel thus reads a matrix forward, once.
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

// Groups whose units alternate: 4 for float formats, else 1.
inline int interleaved_groups(const PackedLayout& layout) { return layout.block_elems == 1 ? 4 : 1; }

// Bytes of a group of rows of n_in values.
inline int64_t group_bytes(const PackedLayout& layout, int64_t n_in) {
  const int64_t n_blocks = n_in / layout.block_elems;
  return n_blocks * layout.units * layout.unit_bytes * kGroupRows + (layout.half_offset >= 0 ? (n_blocks + 1) / 2 * 64 : 0);
}
// Bytes of a packed matrix: whole groups, and whole runs of interleaved ones.
inline int64_t packed_bytes(const PackedLayout& layout, int64_t n_in, int64_t n_out) {
  const int64_t run = int64_t{kGroupRows} * interleaved_groups(layout);
  return group_bytes(layout, n_in) * ((n_out + run - 1) / run * interleaved_groups(layout));
}

// Packs group `group` of a matrix: up to 16 rows (n_rows, in the file's layout, row_stride bytes
// apart). Missing rows become zero bytes, which decode to zero in every layout.
void pack_group(const PackedLayout& layout, const uint8_t* rows, int64_t row_stride, int n_rows,
                int64_t n_in, int64_t group, uint8_t* matrix);
// The inverse: `out` receives a row's blocks as the file has them.
void unpack_row(const PackedLayout& layout, const uint8_t* matrix, int64_t row, int64_t n_in, uint8_t* out);

}  // namespace venturi
