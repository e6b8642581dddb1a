#include "kernels/matmul/layout.h"

#include <cstring>

namespace venturi {

const PackedLayout kLayoutF32{.name = "F32", .kernel = MatmulKernel::kF32, .block_elems = 1, .block_bytes = 4, .unit_bytes = 4, .units = 1, .unit_offset = 0, .half_offset = -1, .int8_input = false};
const PackedLayout kLayoutF16{.name = "F16", .kernel = MatmulKernel::kF16, .block_elems = 1, .block_bytes = 2, .unit_bytes = 2, .units = 1, .unit_offset = 0, .half_offset = -1, .int8_input = false};
const PackedLayout kLayoutBF16{.name = "BF16", .kernel = MatmulKernel::kBF16, .block_elems = 1, .block_bytes = 2, .unit_bytes = 2, .units = 1, .unit_offset = 0, .half_offset = -1, .int8_input = false};
const PackedLayout kLayoutQ8_0{.name = "Q8_0", .kernel = MatmulKernel::kQ8_0, .block_elems = 32, .block_bytes = 34, .unit_bytes = 4, .units = 8, .unit_offset = 2, .half_offset = 0, .int8_input = true};
const PackedLayout kLayoutQ4_0{.name = "Q4_0", .kernel = MatmulKernel::kQ4_0, .block_elems = 32, .block_bytes = 18, .unit_bytes = 4, .units = 4, .unit_offset = 2, .half_offset = 0, .int8_input = true};
const PackedLayout kLayoutQ4_K{.name = "Q4_K", .kernel = MatmulKernel::kQ4_K, .block_elems = 256, .block_bytes = 144, .unit_bytes = 4, .units = 36, .unit_offset = 0, .half_offset = -1, .int8_input = true};
const PackedLayout kLayoutQ6_K{.name = "Q6_K", .kernel = MatmulKernel::kQ6_K, .block_elems = 256, .block_bytes = 210, .unit_bytes = 4, .units = 52, .unit_offset = 0, .half_offset = 208, .int8_input = true};

std::span<const PackedLayout* const> all_layouts() {
  static const PackedLayout* const kAll[] = {&kLayoutF32, &kLayoutF16, &kLayoutBF16, &kLayoutQ8_0,
                                             &kLayoutQ4_0, &kLayoutQ4_K, &kLayoutQ6_K};
  return kAll;
}

namespace {

// Where a block's units and its row of scales begin in a group.
struct BlockPlace {
  int64_t units, half;
};
BlockPlace place(const PackedLayout& layout, int64_t block) {
  const int64_t payload = int64_t{layout.units} * layout.unit_bytes * kGroupRows;
  if (layout.half_offset < 0) return {block * payload, -1};
  const int64_t pair = block / 2 * (2 * payload + 64);
  return {pair + 64 + block % 2 * payload, pair + block % 2 * 32};
}

// Four words of 4 bytes, whose shuffles every compiler turns into the machine's own.
typedef uint32_t Words4 __attribute__((vector_size(16)));

// Four words of each of four rows, `stride` bytes apart, to four units of 16 rows.
inline void interleave4(const uint8_t* src, int64_t stride, uint8_t* dst) {
  Words4 row[4];
  for (int r = 0; r < 4; ++r) std::memcpy(&row[r], src + r * stride, 16);
  const Words4 a = __builtin_shufflevector(row[0], row[1], 0, 4, 1, 5), b = __builtin_shufflevector(row[2], row[3], 0, 4, 1, 5);
  const Words4 c = __builtin_shufflevector(row[0], row[1], 2, 6, 3, 7), d = __builtin_shufflevector(row[2], row[3], 2, 6, 3, 7);
  const Words4 unit[4] = {__builtin_shufflevector(a, b, 0, 1, 4, 5), __builtin_shufflevector(a, b, 2, 3, 6, 7),
                          __builtin_shufflevector(c, d, 0, 1, 4, 5), __builtin_shufflevector(c, d, 2, 3, 6, 7)};
  for (int u = 0; u < 4; ++u) std::memcpy(dst + u * kGroupRows * 4, &unit[u], 16);
}

// The rows of one block at a time: its destination lines stay in the L1 cache until full.
void pack_block(const PackedLayout& layout, const uint8_t* blocks, int64_t row_stride, int n_rows, uint8_t* out) {
  const uint8_t* from = blocks + layout.unit_offset;
  int row = 0;
  for (; row + 4 <= n_rows; row += 4)
    for (int u = 0; u < layout.units; u += 4)
      interleave4(from + row * row_stride + u * 4, row_stride, out + (u * kGroupRows + row) * 4);
  for (; row < kGroupRows; ++row)
    for (int u = 0; u < layout.units; ++u) {
      uint8_t* dst = out + (u * kGroupRows + row) * 4;
      if (row < n_rows) {
        std::memcpy(dst, from + row * row_stride + u * 4, 4);
      } else {
        std::memset(dst, 0, 4);
      }
    }
}

// Float rows are one run of units: a strip of all rows at a time. `step` bytes from unit to unit.
template <int kUnit>
void pack_run(const uint8_t* rows, int64_t row_stride, int n_rows, int64_t n, int64_t step, uint8_t* out) {
  constexpr int64_t kStrip = 128;
  for (int64_t begin = 0; begin < n; begin += kStrip) {
    const int64_t end = begin + kStrip < n ? begin + kStrip : n;
    for (int row = 0; row < kGroupRows; ++row) {
      uint8_t* dst = out + row * kUnit;
      if (row < n_rows) {
        const uint8_t* src = rows + row * row_stride;
        for (int64_t u = begin; u < end; ++u) std::memcpy(dst + u * step, src + u * kUnit, kUnit);
      } else {
        for (int64_t u = begin; u < end; ++u) std::memset(dst + u * step, 0, kUnit);
      }
    }
  }
}

// Where a group's first unit lies, and the bytes from one unit of it to the next.
struct GroupPlace {
  int64_t begin, step;
};
GroupPlace place_group(const PackedLayout& layout, int64_t n_in, int64_t group) {
  const int64_t run = interleaved_groups(layout), line = int64_t{kGroupRows} * layout.unit_bytes;
  return {group / run * run * group_bytes(layout, n_in) + group % run * line, run * line};
}

}  // namespace

void pack_group(const PackedLayout& layout, const uint8_t* rows, int64_t row_stride, int n_rows, int64_t n_in,
                int64_t group, uint8_t* matrix) {
  const GroupPlace to = place_group(layout, n_in, group);
  uint8_t* out = matrix + to.begin;
  if (layout.block_elems == 1) {
    if (layout.unit_bytes == 4) return pack_run<4>(rows, row_stride, n_rows, n_in, to.step, out);
    return pack_run<2>(rows, row_stride, n_rows, n_in, to.step, out);
  }
  for (int64_t block = 0; block < n_in / layout.block_elems; ++block) {
    const BlockPlace at = place(layout, block);
    const uint8_t* src = rows + block * layout.block_bytes;
    pack_block(layout, src, row_stride, n_rows, out + at.units);
    if (layout.half_offset < 0) continue;
    std::memset(out + at.half, 0, kGroupRows * 2);
    for (int row = 0; row < n_rows; ++row)
      std::memcpy(out + at.half + row * 2, src + row * row_stride + layout.half_offset, 2);
  }
}

void unpack_row(const PackedLayout& layout, const uint8_t* matrix, int64_t row, int64_t n_in, uint8_t* out) {
  const GroupPlace from = place_group(layout, n_in, row / kGroupRows);
  const uint8_t* group = matrix + from.begin;
  const int64_t lane = row % kGroupRows, unit = layout.unit_bytes;
  for (int64_t block = 0; block < n_in / layout.block_elems; ++block) {
    uint8_t* dst = out + block * layout.block_bytes;
    if (layout.block_elems == 1) {
      std::memcpy(dst, group + block * from.step + lane * unit, unit);
      continue;
    }
    const BlockPlace at = place(layout, block);
    for (int u = 0; u < layout.units; ++u)
      std::memcpy(dst + layout.unit_offset + u * unit, group + at.units + (u * kGroupRows + lane) * unit, unit);
    if (layout.half_offset >= 0) std::memcpy(dst + layout.half_offset, group + at.half + lane * 2, 2);
  }
}

}  // namespace venturi
