// The row kernels against double, against torch's goldens, and bit by bit between instruction sets.
#include "kernels/rows/rows.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <numeric>

#include "kernels/golden_test_support.h"
#include "kernels/test_support.h"

namespace venturi {
namespace {

using namespace kernel_testing;

constexpr double kEps = 0x1p-24;  // half a unit in the last place of 1

std::vector<int64_t> lengths() {
  std::vector<int64_t> n(70);
  std::iota(n.begin(), n.end(), 1);
  n.insert(n.end(), {127, 128, 129, 1000, 4096, 10007});
  return n;
}

// The sum over a row takes at most n / 16 + 5 additions one after another.
double sum_bound(int64_t n) { return (static_cast<double>(n) / 16 + 6) * kEps; }

class RowsTest : public IsaTest {
 protected:
  const RowKernels& rows = row_kernels(GetParam());
};
INSTANTIATE_TEST_SUITE_P(Isas, RowsTest, testing::ValuesIn(runnable_isas()), isa_label);

TEST_P(RowsTest, RmsNorm) {
  for (const int64_t n : lengths()) {
    const auto x = floats(1, n, 3), w = floats(2, n);
    std::vector<float> y(n);
    rows.rms_norm(x.data(), w.data(), 1e-5f, n, y.data());
    double sum = 0;
    for (const float v : x) sum += double{v} * v;
    const double scale = 1 / std::sqrt(sum / static_cast<double>(n) + 1e-5f);
    // Half the sum's error through the root, then five more roundings.
    for (int64_t i = 0; i < n; ++i)
      ASSERT_NEAR(y[i], x[i] * scale * w[i],
                  std::fabs(x[i] * scale * w[i]) * (sum_bound(n) / 2 + 6 * kEps))
          << n;
  }
}

TEST_P(RowsTest, LayerNorm) {
  for (const int64_t n : lengths()) {
    const auto x = floats(1, n, 3), w = floats(2, n), b = floats(3, n);
    std::vector<float> y(n), unbiased(n);
    rows.layer_norm(x.data(), w.data(), b.data(), 1e-3f, n, y.data());
    rows.layer_norm(x.data(), w.data(), nullptr, 1e-3f, n, unbiased.data());
    const double mean = std::accumulate(x.begin(), x.end(), 0.0) / static_cast<double>(n);
    double variance = 0;
    for (const float v : x) variance += (v - mean) * (v - mean) / static_cast<double>(n);
    const double scale = 1 / std::sqrt(variance + 1e-3f);
    // The mean is off by at most its sum's error times the largest |x|; that error, scaled, remains
    // in every element.
    const double absolute = 3 * scale * (sum_bound(n) + 2 * kEps);
    for (int64_t i = 0; i < n; ++i) {
      const double normed = (x[i] - mean) * scale * w[i];
      const double bound = 2 * absolute + std::fabs(normed) * (sum_bound(n) + 6 * kEps) + 2 * kEps;
      ASSERT_NEAR(unbiased[i], normed, bound) << n;
      ASSERT_NEAR(y[i], normed + b[i], bound) << n;
    }
  }
}

TEST_P(RowsTest, Elementwise) {
  for (const int64_t n : lengths()) {
    const auto a = floats(1, n, 5), b = floats(2, n);
    std::vector<float> sum(n), scaled = a, added = b;
    rows.add(a.data(), b.data(), n, sum.data());
    rows.scale(scaled.data(), 0.3f, n);
    rows.add_scaled(a.data(), 0.3f, n, added.data());
    for (int64_t i = 0; i < n; ++i) {
      ASSERT_EQ(sum[i], a[i] + b[i]);
      ASSERT_EQ(scaled[i], a[i] * 0.3f);
      ASSERT_EQ(added[i], std::fma(a[i], 0.3f, b[i]));
    }
  }
}

double silu(double x) { return x / (1 + std::exp(-x)); }
double gelu(double x) {
  return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}

TEST_P(RowsTest, Activations) {
  for (const int64_t n : lengths()) {
    const auto x = floats(1, n, 12), up = floats(2, n);
    std::vector<float> s(n), g(n), s_up(n), g_up(n), capped = x;
    rows.silu_mul(x.data(), nullptr, n, s.data());
    rows.gelu_mul(x.data(), nullptr, n, g.data());
    rows.silu_mul(x.data(), up.data(), n, s_up.data());
    rows.gelu_mul(x.data(), up.data(), n, g_up.data());
    rows.soft_cap(capped.data(), 5.0f, n);
    for (int64_t i = 0; i < n; ++i) {
      const double v = x[i];
      // Sigmoid's error (wrapper_test.cc: 1e-7 + 1.2e-7 |x| + 1 ulp) and a product.
      ASSERT_NEAR(s[i], silu(v), std::fabs(silu(v)) * (3e-7 + 1.2e-7 * std::fabs(v))) << v;
      // 1 + tanh loses relative precision as it nears 0: an absolute error of tanh, times x / 2.
      ASSERT_NEAR(g[i], gelu(v), 3e-7 * std::fabs(v) + 2e-7 * std::fabs(gelu(v))) << v;
      ASSERT_NEAR(capped[i], 5 * std::tanh(v / 5), 8e-7 * std::fabs(5 * std::tanh(v / 5))) << v;
      ASSERT_EQ(s_up[i], s[i] * up[i]);
      ASSERT_EQ(g_up[i], g[i] * up[i]);
    }
  }
}

TEST_P(RowsTest, RotateHalves) {
  for (const int64_t half : lengths()) {
    const auto x = floats(1, 2 * half), angle = floats(2, half, 3);
    std::vector<float> y = x, c(half), s(half);
    for (int64_t i = 0; i < half; ++i) {
      c[i] = std::cos(angle[i]);
      s[i] = std::sin(angle[i]);
    }
    rows.rotate_halves(y.data(), c.data(), s.data(), half);
    for (int64_t i = 0; i < half; ++i) {  // one fma, one product: two roundings of terms up to 1
      ASSERT_NEAR(y[i], double{x[i]} * c[i] - double{x[i + half]} * s[i], 4 * kEps);
      ASSERT_NEAR(y[i + half], double{x[i]} * s[i] + double{x[i + half]} * c[i], 4 * kEps);
    }
  }
}

std::vector<double> exact_softmax(const std::vector<float>& x) {
  const double top = *std::max_element(x.begin(), x.end());
  std::vector<double> y;
  for (const float v : x) y.push_back(std::exp(v - top));
  const double sum = std::accumulate(y.begin(), y.end(), 0.0);
  for (double& v : y) v /= sum;
  return y;
}

// Relative error of a probability: that of its exponential (two roundings of the exponent, whose
// size is at most `range`, and the polynomial), the sum's, the scale's. Below 2^-126 it is flushed.
void expect_softmax(const std::vector<float>& x, const std::vector<float>& y, const char* what) {
  const auto exact = exact_softmax(x);
  const auto [low, high] = std::minmax_element(x.begin(), x.end());
  const double range = std::min(90.0, double{*high} - *low), n = static_cast<double>(x.size());
  const double bound =
      2e-7 + range * 1.443 * 2 * kEps + sum_bound(static_cast<int64_t>(n)) + 4 * kEps;
  for (size_t i = 0; i < x.size(); ++i)
    ASSERT_NEAR(y[i], exact[i], exact[i] * bound + 0x1p-125) << what << " n " << n << " at " << i;
}

TEST_P(RowsTest, SoftmaxBothWays) {
  for (const int64_t n : lengths())
    for (const auto& [scale, shift] :
         {std::pair{1.0f, 0.0f}, {5.0f, 80.0f}, {30.0f, -3000.0f}, {1000.0f, 0.0f}}) {
      auto x = floats(4, n, scale);
      for (float& v : x) v += shift;
      auto three = x, two = x;
      rows.softmax_three_pass(three.data(), n);
      rows.softmax_two_pass(two.data(), n);
      expect_softmax(x, three, "three passes");
      expect_softmax(x, two, "two passes");
      EXPECT_NEAR(std::accumulate(two.begin(), two.end(), 0.0), 1, 2e-6);
      EXPECT_NEAR(std::accumulate(three.begin(), three.end(), 0.0), 1, 2e-6);
    }
}

TEST_P(RowsTest, SoftmaxOfExtremes) {
  for (const int64_t n : {2, 3, 16, 17, 65}) {
    std::vector<float> x(n, -1000.0f);
    x[n / 2] = 1000.0f;
    for (auto* softmax : {rows.softmax_three_pass, rows.softmax_two_pass}) {
      auto y = x;
      softmax(y.data(), n);
      for (int64_t i = 0; i < n; ++i) EXPECT_EQ(y[i], i == n / 2 ? 1.0f : 0.0f);
      std::vector<float> equal(n, 1000.0f);
      softmax(equal.data(), n);
      for (const float v : equal) EXPECT_NEAR(v, 1.0 / static_cast<double>(n), 1e-6);
    }
    x[0] = -std::numeric_limits<float>::infinity();  // as masks have it
    rows.softmax_three_pass(x.data(), n);
    EXPECT_EQ(x[0], 0.0f);
    EXPECT_EQ(x[n / 2], 1.0f);
  }
}

// ---- goldens of torch ---------------------------------------------------------------------------

void expect_close(const std::vector<float>& y, const std::vector<float>& golden, double relative,
                  double absolute, const std::string& what) {
  ASSERT_EQ(y.size(), golden.size()) << what;
  for (size_t i = 0; i < y.size(); ++i)
    EXPECT_NEAR(y[i], golden[i], relative * std::fabs(golden[i]) + absolute) << what << " at " << i;
}

TEST_P(RowsTest, GoldenSoftmax) {
  for (const auto& c : read_golden("ops.json", "softmax")) {
    const auto name = c["name"].get<std::string>();
    const auto x = numbers(c["x"]);
    for (auto* softmax : {rows.softmax_three_pass, rows.softmax_two_pass}) {
      auto y = x;
      softmax(y.data(), static_cast<int64_t>(y.size()));
      expect_close(y, numbers(c["out"]), 90 * 1.443 * 2 * kEps + 1e-6, 1e-37, name);
    }
  }
}

TEST_P(RowsTest, GoldenNorms) {
  for (const auto& c : read_golden("ops.json", "norm")) {
    const int64_t n = c["columns"];
    const auto x = numbers(c["x"]), weight = numbers(c["weight"]), bias = numbers(c["bias"]);
    const float epsilon = c["eps"];
    std::vector<float> rms(x.size()), layer(x.size());
    for (size_t at = 0; at < x.size(); at += n) {
      rows.rms_norm(&x[at], weight.data(), epsilon, n, &rms[at]);
      rows.layer_norm(&x[at], weight.data(), bias.data(), epsilon, n, &layer[at]);
    }
    expect_close(rms, numbers(c["rms_norm"]), 16 * kEps, 0, "rms_norm");
    // Of a mean near 100, 16 units in the last place remain in every difference.
    const double mean =
        std::fabs(std::accumulate(x.begin(), x.end(), 0.0)) / static_cast<double>(x.size());
    expect_close(layer, numbers(c["layer_norm"]), 16 * kEps, 16 * kEps * (2 + mean), "layer_norm");
  }
}

TEST_P(RowsTest, GoldenActivations) {
  const auto golden = read_golden("ops.json", "activations");
  const auto x = numbers(golden["x"]), up = numbers(golden["up"]);
  const auto n = static_cast<int64_t>(x.size());
  std::vector<float> y(n);
  const double loose = 3e-7 + 90 * 1.2e-7;
  rows.silu_mul(x.data(), nullptr, n, y.data());
  expect_close(y, numbers(golden["silu"]), loose, 1e-36, "silu");
  rows.silu_mul(x.data(), up.data(), n, y.data());
  expect_close(y, numbers(golden["swiglu"]), loose, 1e-36, "swiglu");
  rows.gelu_mul(x.data(), nullptr, n, y.data());
  expect_close(y, numbers(golden["gelu_tanh"]), 5e-7, 14 * 1e-7, "gelu");
  rows.gelu_mul(x.data(), up.data(), n, y.data());
  expect_close(y, numbers(golden["geglu_tanh"]), 5e-7, 14 * 3e-7, "geglu");
  y = x;
  rows.soft_cap(y.data(), golden["cap"], n);
  expect_close(y, numbers(golden["softcap"]), 8e-7, 0, "soft cap");
}

// ---- the same bits on every set -----------------------------------------------------------------

TEST_P(RowsTest, SameBitsAsPortable) {
  const RowKernels& plain = row_kernels(Isa::kPortable);
  for (const int64_t n : lengths()) {
    const auto x = floats(1, n, 20), w = floats(2, n), b = floats(3, n);
    const auto run = [&](const RowKernels& r) {
      std::vector<float> all;
      std::vector<float> y(n);
      const auto keep = [&] { all.insert(all.end(), y.begin(), y.end()); };
      r.rms_norm(x.data(), w.data(), 1e-5f, n, y.data()), keep();
      r.layer_norm(x.data(), w.data(), b.data(), 1e-5f, n, y.data()), keep();
      r.add(x.data(), w.data(), n, y.data()), keep();
      r.scale(y.data(), 0.7f, n), keep();
      r.add_scaled(x.data(), 0.7f, n, y.data()), keep();
      r.silu_mul(x.data(), w.data(), n, y.data()), keep();
      r.silu_mul(x.data(), nullptr, n, y.data()), keep();
      r.gelu_mul(x.data(), w.data(), n, y.data()), keep();
      r.soft_cap(y.data(), 3.0f, n), keep();
      y = x, r.softmax_three_pass(y.data(), n), keep();
      y = x, r.softmax_two_pass(y.data(), n), keep();
      y = x, r.rotate_halves(y.data(), w.data(), b.data(), n / 2), keep();
      return all;
    };
    ASSERT_TRUE(same_bits(run(rows), run(plain))) << n;
  }
}

// The written tree, and that another one would be noticed.
TEST_P(RowsTest, SumsFollowTheWrittenTree) {
  constexpr int64_t kN = 1003;
  const auto x = floats(9, kN);
  const std::vector<float> ones(kN, 1.0f);
  float lanes[16] = {}, straight = 0;
  for (int64_t i = 0; i < kN; ++i) {
    lanes[i % 16] = std::fma(x[i], x[i], lanes[i % 16]);
    straight = std::fma(x[i], x[i], straight);
  }
  for (int width = 8; width >= 1; width /= 2)
    for (int i = 0; i < width; ++i) lanes[i] += lanes[i + width];
  const auto normed = [&](float sum) {
    std::vector<float> y;
    for (const float v : x) y.push_back(v * (1.0f / std::sqrt(sum / kN + 1e-5f)));
    return y;
  };
  std::vector<float> y(kN);
  rows.rms_norm(x.data(), ones.data(), 1e-5f, kN, y.data());
  EXPECT_TRUE(same_bits(y, normed(lanes[0])));
  EXPECT_FALSE(same_bits(y, normed(straight)));
}

}  // namespace
}  // namespace venturi
