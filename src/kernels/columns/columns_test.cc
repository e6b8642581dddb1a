// Products over columns against the dense products of matmul.h, bit by bit: on every instruction set,
// for odd sizes and any sparsity.
#include "kernels/columns/columns.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "base/checked.h"
#include "kernels/matmul/matmul.h"
#include "kernels/test_support.h"

namespace venturi {
namespace {

using namespace kernel_testing;

// A matrix as a file has it: random codes, scales and floats that are finite and not tiny.
struct Matrix {
  const PackedLayout* layout;
  int64_t n, k;
  std::vector<uint8_t> rows;
  int64_t row_bytes() const { return k / layout->block_elems * layout->block_bytes; }
};

uint16_t random_half(uint64_t stream, uint64_t i) {  // normal, 2^-10 to 2
  const uint64_t r = random_bits(11, stream, i);
  return static_cast<uint16_t>((r & 0x83ff) | (5 + r / 65536 % 11) << 10);
}

Matrix random_matrix(const PackedLayout& layout, int64_t n, int64_t k) {
  Matrix w{&layout, n, k, {}};
  w.rows.resize(static_cast<size_t>(n * w.row_bytes()));
  for (size_t i = 0; i < w.rows.size(); ++i) w.rows[i] = static_cast<uint8_t>(random_bits(1, n, i));
  const int64_t blocks = n * k / layout.block_elems;
  for (int64_t b = 0; b < blocks; ++b) {
    uint8_t* at = w.rows.data() + b * layout.block_bytes;
    if (layout.half_offset >= 0 || &layout == &kLayoutF16) {
      const uint16_t half = random_half(2, b);
      std::memcpy(at + std::max(layout.half_offset, 0), &half, 2);
    } else {
      const float value = uniform(3, b);
      uint32_t bits;
      std::memcpy(&bits, &value, 4);
      if (layout.block_bytes == 2) bits >>= 16;
      std::memcpy(at, &bits, layout.block_bytes);
    }
  }
  return w;
}

std::vector<float> sparse_input(int64_t m, int64_t k, double density) {
  std::vector<float> x = floats(5, m * k);
  for (size_t i = 0; i < x.size(); ++i)
    if (random_uniform(6, 0, i) >= density) x[i] = random_bits(6, 1, i) & 1 ? 0.0f : -0.0f;
  return x;
}

std::vector<float> dense(Isa isa, const Matrix& w, const std::vector<float>& x, int64_t m) {
  const MatmulTable& table = matmul_table(isa);
  std::vector<uint8_t> packed(static_cast<size_t>(packed_bytes(*w.layout, w.k, w.n)) + 64);
  auto* at = reinterpret_cast<uint8_t*>(round_up(reinterpret_cast<int64_t>(packed.data()), 64));
  for (int64_t row = 0; row < w.n; row += kGroupRows)
    pack_group(*w.layout, w.rows.data() + row * w.row_bytes(), w.row_bytes(),
               static_cast<int>(std::min<int64_t>(kGroupRows, w.n - row)), w.k, row / kGroupRows, at);
  std::vector<float> y(static_cast<size_t>(m * w.n));
  std::vector<float> buffer(static_cast<size_t>(Int8Rows::bytes(m, w.k) / 4 + FloatPanels::bytes(m, w.k, table.float_panel) / 4 + 64));
  Int8Rows q;
  FloatPanels panels{m, w.k, table.float_panel, buffer.data()};
  MatmulArgs args{.weights = at, .tile = nullptr, .n = w.n, .k = w.k, .group_begin = 0,
                  .group_end = ceil_div(w.n, kGroupRows), .x_int8 = &q, .x_float = &panels,
                  .m_begin = 0, .m_end = m, .y = y.data(), .y_stride = w.n};
  if (w.layout->int8_input) {
    q = Int8Rows::over(buffer.data(), m, w.k);
    table.round_int8(x.data(), w.k, 0, m, false, q);
  } else {
    pack_panels(x.data(), w.k, 0, m, panels);
  }
  table.run[static_cast<int>(w.layout->kernel)](args);
  return y;
}

// The same by columns: those with a zero in every row of x are not even there. In runs of two blocks,
// strip by strip.
std::vector<float> sparse(Isa isa, const Matrix& w, const std::vector<float>& x, int64_t m) {
  const ColumnKernel kernel = column_kernel(w.layout);
  const int64_t blocks = ceil_div(w.k, kColumnBlock), stride = column_bytes(kernel, w.n);
  std::vector<float> y(static_cast<size_t>(m * w.n));
  std::vector<float> buffer(static_cast<size_t>(Int8Rows::bytes(m, round_up(w.k, 32)) / 4));
  const Int8Rows q = Int8Rows::over(buffer.data(), m, round_up(w.k, 32));
  if (w.layout->int8_input) matmul_table(isa).round_int8(x.data(), w.k, 0, m, false, q);
  for (int64_t begin = 0; begin < blocks; begin += 2) {
    const int64_t n_blocks = std::min<int64_t>(2, blocks - begin);
    std::vector<std::vector<uint8_t>> columns;
    std::vector<std::vector<uint16_t>> scales;
    std::vector<int32_t> index;  // of each k in the run, -1: left out
    for (int64_t b = begin; b < begin + n_blocks; ++b) {
      const int64_t count = std::min(kColumnBlock, w.k - b * kColumnBlock);
      std::vector<uint8_t> split(static_cast<size_t>(count * stride), 0xee);
      scales.emplace_back(static_cast<size_t>(padded_outputs(w.n)));
      split_columns(kernel, w.rows.data(), w.row_bytes(), w.n, b, count, split.data(), stride, scales.back().data());
      for (int64_t i = 0; i < count; ++i) {
        bool any = false;
        for (int64_t r = 0; r < m; ++r) any |= x[static_cast<size_t>(r * w.k + b * kColumnBlock + i)] != 0;
        index.push_back(any ? static_cast<int32_t>(columns.size()) : -1);
        if (any) columns.emplace_back(split.begin() + i * stride, split.begin() + (i + 1) * stride);
      }
    }
    std::vector<ColumnEntry> entries;
    std::vector<uint32_t> first;
    for (int64_t r = 0; r < m; ++r) {
      first.push_back(static_cast<uint32_t>(entries.size()));
      for (int64_t b = 0; b < n_blocks; ++b) {
        for (int64_t i = 0; i < std::min(kColumnBlock, w.k - (begin + b) * kColumnBlock); ++i) {
          const int32_t at = index[static_cast<size_t>(b * kColumnBlock + i)];
          if (at < 0) continue;
          int32_t value;
          const float f = x[static_cast<size_t>(r * w.k + (begin + b) * kColumnBlock + i)];
          std::memcpy(&value, &f, 4);
          if (w.layout->int8_input) value = q.q[((begin + b) * m + r) * 32 + i];
          if (value) entries.push_back({static_cast<uint32_t>(at), value});
        }
        first.push_back(static_cast<uint32_t>(entries.size()));
      }
    }
    std::vector<const uint8_t*> column_at;
    std::vector<const uint16_t*> scale_at;
    for (const auto& c : columns) column_at.push_back(c.data());
    for (const auto& s : scales) scale_at.push_back(s.data());
    for (int64_t strip = 0; strip < padded_outputs(w.n) / kStripOutputs; ++strip)
      columns_table(isa).run[static_cast<int>(kernel)](
          {.columns = column_at.data(), .scales = scale_at.data(), .entries = entries.data(), .first = first.data(),
           .d = q.d + begin * m, .negative_sum = q.negative_sum + begin * m, .rows = m, .blocks = n_blocks,
           .n = w.n, .strip_begin = strip, .strip_end = strip + 1, .y = y.data(), .y_stride = w.n});
  }
  return y;
}

const PackedLayout* const kLayouts[] = {&kLayoutF32, &kLayoutF16, &kLayoutBF16, &kLayoutQ8_0, &kLayoutQ4_0};

class ColumnsTest : public IsaTest {};
INSTANTIATE_TEST_SUITE_P(Isas, ColumnsTest, testing::ValuesIn(runnable_isas()), isa_label);

TEST_P(ColumnsTest, TheBitsOfTheDenseProduct) {
  for (const PackedLayout* layout : kLayouts)
    for (const auto& [n, k] : std::vector<std::pair<int64_t, int64_t>>{{1, 32}, {16, 64}, {100, 96}, {128, 160}, {130, 320}, {400, 1024}})
      for (const int64_t m : {1, 2, 5})
        for (const double density : {0.0, 0.02, 0.1, 0.6, 1.0}) {
          const Matrix w = random_matrix(*layout, n, k);
          const auto x = sparse_input(m, k, density);
          ASSERT_TRUE(same_bits(dense(GetParam(), w, x, m), sparse(GetParam(), w, x, m)))
              << layout->name << " " << n << " x " << k << ", " << m << " rows, density " << density;
        }
}

// Codes at their ends, where 16 bits hold a block's sum and no more.
TEST_P(ColumnsTest, LargestCodes) {
  for (const PackedLayout* layout : {&kLayoutQ4_0, &kLayoutQ8_0})
    for (const int byte : {0x00, 0xff, 0x80, 0x7f}) {
      Matrix w = random_matrix(*layout, 128, 64);
      for (size_t i = 0; i < w.rows.size(); ++i)
        if (i % static_cast<size_t>(layout->block_bytes) >= 2) w.rows[i] = static_cast<uint8_t>(byte);
      for (const float value : {1.0f, -1.0f}) {
        const std::vector<float> x(64, value);
        ASSERT_TRUE(same_bits(dense(GetParam(), w, x, 1), sparse(GetParam(), w, x, 1))) << layout->name << " " << byte;
      }
    }
}

TEST_P(ColumnsTest, WhatIsNotANumberComesOut) {
  for (const PackedLayout* layout : kLayouts) {
    const Matrix w = random_matrix(*layout, 100, 96);
    auto x = sparse_input(2, 96, 0.1);
    x[40] = std::numeric_limits<float>::quiet_NaN();
    x[96 + 70] = std::numeric_limits<float>::infinity();
    ASSERT_TRUE(same_bits(dense(GetParam(), w, x, 2), sparse(GetParam(), w, x, 2))) << layout->name;
  }
}

TEST(Columns, OnlySomeLayoutsHaveThem) {
  for (const PackedLayout* layout : kLayouts) EXPECT_NE(column_kernel(layout), ColumnKernel::kNone) << layout->name;
  for (const PackedLayout* layout : {&kLayoutQ4_K, &kLayoutQ6_K})
    EXPECT_EQ(column_kernel(layout), ColumnKernel::kNone) << layout->name;
  EXPECT_EQ(column_kernel(nullptr), ColumnKernel::kNone);
}

// The last columns of a float matrix need not be 32.
TEST_P(ColumnsTest, AnOddNumberOfColumns) {
  for (const PackedLayout* layout : {&kLayoutF32, &kLayoutF16, &kLayoutBF16}) {
    const Matrix w = random_matrix(*layout, 50, 77);
    const auto x = sparse_input(3, 77, 0.3);
    ASSERT_TRUE(same_bits(dense(GetParam(), w, x, 3), sparse(GetParam(), w, x, 3))) << layout->name;
  }
}

}  // namespace
}  // namespace venturi
