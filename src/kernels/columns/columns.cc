#include "kernels/columns/columns.h"

#include <cassert>
#include <cstring>

namespace venturi {

#if defined(__x86_64__)
namespace avx2 { extern const ColumnsTable columns; }
namespace avx512 { extern const ColumnsTable columns; }
#elif defined(__aarch64__)
namespace neon { extern const ColumnsTable columns; }
#endif
namespace portable { extern const ColumnsTable columns; }

const ColumnsTable& columns_table(Isa isa) {
  switch (isa) {
#if defined(__x86_64__)
    case Isa::kAvx2: return avx2::columns;
    case Isa::kAvx512: return avx512::columns;
#elif defined(__aarch64__)
    case Isa::kNeon: return neon::columns;
#endif
    default: return portable::columns;
  }
}

namespace {

// How the columns of a layout are stored: bits of an output, and the way of one block of rows there.
struct ColumnFormat {
  const PackedLayout* layout;
  int bits;
  // `count` values of output `n`, from a row's block (or values) on, to the columns, `stride` apart.
  void (*scatter)(const uint8_t* block, int64_t count, int64_t n, uint8_t* out, int64_t stride);
};

void scatter_nibbles(const uint8_t* block, int64_t count, int64_t n, uint8_t* out, int64_t stride) {
  const int64_t strip = n / kStripOutputs, within = n % kStripOutputs, nibble = within / 32;
  // Words are little-endian: nibbles 0 and 1 are the first byte's.
  uint8_t* at = out + strip * 64 + within % 32 * 2 + nibble / 2;
  const int shift = nibble % 2 * 4;
  for (int64_t i = 0; i < count; ++i) {
    const uint8_t byte = block[2 + i % 16];
    const uint8_t code = i < 16 ? byte & 15 : byte >> 4;
    at[i * stride] = static_cast<uint8_t>(at[i * stride] | code << shift);
  }
}

template <int kBytes, int kOffset>
void scatter_values(const uint8_t* block, int64_t count, int64_t n, uint8_t* out, int64_t stride) {
  for (int64_t i = 0; i < count; ++i) std::memcpy(out + i * stride + n * kBytes, block + kOffset + i * kBytes, kBytes);
}

constexpr ColumnFormat kFormatF32{&kLayoutF32, 32, scatter_values<4, 0>};
constexpr ColumnFormat kFormatF16{&kLayoutF16, 16, scatter_values<2, 0>};
constexpr ColumnFormat kFormatBF16{&kLayoutBF16, 16, scatter_values<2, 0>};
constexpr ColumnFormat kFormatQ8_0{&kLayoutQ8_0, 8, scatter_values<1, 2>};
constexpr ColumnFormat kFormatQ4_0{&kLayoutQ4_0, 4, scatter_nibbles};

const ColumnFormat* const kFormats[] = {
#define VENTURI_COLUMNS(name, format, kind) &kFormat##name,
#include "kernels/columns/kernels.inc"
#undef VENTURI_COLUMNS
};

const ColumnFormat& format_of(ColumnKernel kernel) { return *kFormats[static_cast<int>(kernel)]; }
bool has_scales(const ColumnFormat& format) { return format.layout->half_offset >= 0; }

}  // namespace

ColumnKernel column_kernel(const PackedLayout* layout) {
  for (int i = 0; i < static_cast<int>(ColumnKernel::kCount); ++i)
    if (layout && kFormats[i]->layout == layout) return static_cast<ColumnKernel>(i);
  return ColumnKernel::kNone;
}

int64_t column_bytes(ColumnKernel kernel, int64_t n) { return padded_outputs(n) * format_of(kernel).bits / 8; }

int64_t column_scale_bytes(ColumnKernel kernel, int64_t n, int64_t k) {
  return has_scales(format_of(kernel)) ? k / kColumnBlock * padded_outputs(n) * 2 : 0;
}

void split_columns(ColumnKernel kernel, const uint8_t* rows, int64_t row_bytes, int64_t n, int64_t block, int64_t count,
                   uint8_t* out, int64_t stride, uint16_t* scales) {
  const ColumnFormat& format = format_of(kernel);
  const PackedLayout& layout = *format.layout;
  const int64_t bytes = column_bytes(kernel, n);
  for (int64_t i = 0; i < count; ++i) std::memset(out + i * stride, 0, static_cast<size_t>(bytes));
  const int64_t begin = block * kColumnBlock / layout.block_elems * layout.block_bytes;
  for (int64_t row = 0; row < n; ++row) format.scatter(rows + row * row_bytes + begin, count, row, out, stride);
  if (!has_scales(format)) return;
  assert(count == kColumnBlock);
  std::memset(scales, 0, static_cast<size_t>(padded_outputs(n)) * 2);
  for (int64_t row = 0; row < n; ++row) std::memcpy(scales + row, rows + row * row_bytes + begin + layout.half_offset, 2);
}

}  // namespace venturi
