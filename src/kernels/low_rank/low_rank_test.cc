// Thin products against the plain definition, bit by bit: on every instruction set, in every format, for
// odd sizes, any number of rows, slices of k and sums added to what is there.
#include "kernels/low_rank/low_rank.h"

#include <gtest/gtest.h>

#include <cstring>

#include "kernels/matmul/matmul.h"
#include "kernels/test_support.h"

namespace venturi {
namespace {

using namespace kernel_testing;

// Values that the format holds exactly, as f32 and in its layout.
struct Matrix {
  int64_t n, k;
  std::vector<float> values;    // [n, k]
  std::vector<uint8_t> layout;
};

Matrix random_matrix(LowRankFormat format, int64_t n, int64_t k) {
  Matrix w{n, k, floats(3, n * k), {}};
  w.layout.resize(static_cast<size_t>(low_rank_bytes(format, n, k)));
  for (int64_t r = 0; r < n; ++r)
    for (int64_t i = 0; i < k; ++i) {
      float& value = w.values[r * k + i];
      const int64_t at = low_rank_place(r, i, k);
      if (format == LowRankFormat::kF32) {
        std::memcpy(w.layout.data() + at * 4, &value, 4);
        continue;
      }
      uint16_t bits;
      if (format == LowRankFormat::kF16) {
        bits = static_cast<uint16_t>((random_bits(5, r, i) & 0x83ff) | (8 + random_bits(6, r, i) % 8) << 10);
        value = static_cast<float>(f16_value(bits));
      } else {
        const uint32_t wide = std::bit_cast<uint32_t>(value) & 0xffff0000u;
        bits = static_cast<uint16_t>(wide >> 16);
        value = std::bit_cast<float>(wide);
      }
      std::memcpy(w.layout.data() + at * 2, &bits, 2);
    }
  return w;
}

// Of columns [begin, end).
std::vector<float> expected(const Matrix& w, const std::vector<float>& x, int64_t rows, int64_t begin, int64_t end) {
  std::vector<float> part(static_cast<size_t>(w.n * (end - begin))), in(static_cast<size_t>(rows * (end - begin)));
  for (int64_t r = 0; r < w.n; ++r) std::copy_n(w.values.begin() + r * w.k + begin, end - begin, part.begin() + r * (end - begin));
  for (int64_t m = 0; m < rows; ++m) std::copy_n(x.begin() + m * w.k + begin, end - begin, in.begin() + m * (end - begin));
  std::vector<float> y(static_cast<size_t>(rows * w.n));
  matmul_reference_float(part.data(), in.data(), rows, w.n, end - begin, y.data());
  return y;
}

class LowRank : public IsaTest {
 protected:
  // Rows backwards in memory, so that nothing may count on their order.
  std::vector<float> run(LowRankFormat format, const Matrix& w, const std::vector<float>& x, int64_t rows, int64_t begin,
                         int64_t end, const std::vector<float>* onto) {
    constexpr float kGuard = 77;
    const int64_t stride = w.n + 3;
    std::vector<float> y(static_cast<size_t>(rows * stride), kGuard);
    std::vector<const float*> in;
    std::vector<float*> out;
    for (int64_t m = 0; m < rows; ++m) {
      in.push_back(x.data() + m * w.k);
      out.push_back(y.data() + (rows - 1 - m) * stride);
      if (onto) std::copy_n(onto->begin() + m * w.n, w.n, out.back());
    }
    const int64_t groups = (w.n + kGroupRows - 1) / kGroupRows, half = groups / 2;
    for (const auto& [from, to] : {std::pair(int64_t{0}, half), std::pair(half, groups)})
      low_rank_table(GetParam()).run[static_cast<int>(format)]({.weights = w.layout.data(), .n = w.n, .k = w.k,
                                                                .group_begin = from, .group_end = to, .k_begin = begin,
                                                                .k_end = end, .rows = rows, .x = in.data(), .y = out.data(),
                                                                .add = onto != nullptr});
    std::vector<float> result;
    for (int64_t m = 0; m < rows; ++m) {
      result.insert(result.end(), out[m], out[m] + w.n);
      for (int i = 0; i < 3; ++i) EXPECT_EQ(out[m][w.n + i], kGuard) << "written beyond the row";
    }
    return result;
  }
};

TEST_P(LowRank, IsTheDefinition) {
  for (const LowRankFormat format : {LowRankFormat::kF32, LowRankFormat::kF16, LowRankFormat::kBF16})
    for (const auto& [n, k] : {std::pair<int64_t, int64_t>{16, 100}, {3, 64}, {64, 33}, {100, 16}, {257, 5}, {33, 1}}) {
      const Matrix w = random_matrix(format, n, k);
      for (int64_t rows = 1; rows <= 9; ++rows) {
        const std::vector<float> x = floats(8, rows * k), onto = floats(9, rows * n);
        EXPECT_TRUE(same_bits(run(format, w, x, rows, 0, k, nullptr), expected(w, x, rows, 0, k)))
            << n << " x " << k << ", " << rows << " rows";
        std::vector<float> sum = expected(w, x, rows, 0, k);
        for (size_t i = 0; i < sum.size(); ++i) sum[i] = onto[i] + sum[i];
        EXPECT_TRUE(same_bits(run(format, w, x, rows, 0, k, &onto), sum)) << n << " x " << k << ", " << rows << " rows, added";
      }
      if (k < 8) continue;
      const std::vector<float> x = floats(8, 5 * k);
      EXPECT_TRUE(same_bits(run(format, w, x, 5, 3, k - 2, nullptr), expected(w, x, 5, 3, k - 2))) << "a slice";
    }
}

INSTANTIATE_TEST_SUITE_P(Isas, LowRank, testing::ValuesIn(runnable_isas()), isa_label);

}  // namespace
}  // namespace venturi
