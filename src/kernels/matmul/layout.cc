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

template <int kUnit>
void pack_units(const PackedLayout& layout, const uint8_t* rows, int64_t row_stride, int n_rows, int64_t n_blocks,
                uint8_t* out) {
  constexpr int64_t kLine = kGroupRows * kUnit;
  // A strip of units of all rows at a time: the destination lines stay in the L1 cache until full.
  const int64_t total = n_blocks * layout.units;
  constexpr int64_t kStrip = 128;
  for (int64_t begin = 0; begin < total; begin += kStrip) {
    const int64_t end = begin + kStrip < total ? begin + kStrip : total;
    for (int row = 0; row < n_rows; ++row) {
      const uint8_t* src = rows + row * row_stride + layout.unit_offset;
      uint8_t* dst = out + begin * kLine + row * kUnit;
      int64_t block = begin / layout.units, unit = begin % layout.units;
      for (int64_t u = begin; u < end; ++u, dst += kLine) {
        std::memcpy(dst, src + block * layout.block_bytes + unit * kUnit, kUnit);
        if (++unit == layout.units) {
          unit = 0;
          ++block;
        }
      }
    }
  }
}

}  // namespace

void pack_group(const PackedLayout& layout, const uint8_t* rows, int64_t row_stride, int n_rows, int64_t n_in,
                uint8_t* out) {
  const int64_t n_blocks = n_in / layout.block_elems;
  if (n_rows < kGroupRows) std::memset(out, 0, static_cast<size_t>(n_blocks) * layout.block_bytes * kGroupRows);
  if (layout.unit_bytes == 4) {
    pack_units<4>(layout, rows, row_stride, n_rows, n_blocks, out);
  } else {
    pack_units<2>(layout, rows, row_stride, n_rows, n_blocks, out);
  }
  if (layout.half_offset < 0) return;
  uint8_t* plane = out + n_blocks * layout.units * layout.unit_bytes * kGroupRows;
  for (int64_t block = 0; block < n_blocks; ++block)
    for (int row = 0; row < n_rows; ++row)
      std::memcpy(plane + (block * kGroupRows + row) * 2,
                  rows + row * row_stride + block * layout.block_bytes + layout.half_offset, 2);
}

void unpack_row(const PackedLayout& layout, const uint8_t* group, int row, int64_t n_in, uint8_t* out) {
  const int64_t n_blocks = n_in / layout.block_elems;
  const int unit = layout.unit_bytes;
  const uint8_t* plane = group + n_blocks * layout.units * unit * kGroupRows;
  for (int64_t block = 0; block < n_blocks; ++block) {
    uint8_t* dst = out + block * layout.block_bytes;
    for (int u = 0; u < layout.units; ++u)
      std::memcpy(dst + layout.unit_offset + u * unit,
                  group + ((block * layout.units + u) * kGroupRows + row) * unit, unit);
    if (layout.half_offset >= 0)
      std::memcpy(dst + layout.half_offset, plane + (block * kGroupRows + row) * 2, 2);
  }
}

}  // namespace venturi
