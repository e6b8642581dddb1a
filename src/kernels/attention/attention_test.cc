// The attention kernels on every instruction set: against double, and bit by bit against portable.
#include "kernels/attention/attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "kernels/test_support.h"

namespace venturi {
namespace {

using namespace kernel_testing;

constexpr float kLog2e = 1.44269504f;

// One KV head over up to kSplitTokens keys; what lies beyond n_keys is left as other tokens'
// rubbish.
struct Problem {
  int n_keys, n_queries, k_dim, v_dim;
  float soft_cap = 0;
  int64_t first_key = 0;
  std::vector<float> k, v, q;  // q [n_queries][k_dim], as the kernel takes it: scaled
  std::vector<int64_t> lo, hi;

  int n_blocks() const { return (n_keys + kPageTokens - 1) / kPageTokens; }
};

// Query i sees keys up to n_keys - n_queries + i, at most `window` of them.
Problem make(int n_keys, int n_queries, int k_dim, int v_dim, float soft_cap = 0,
             int64_t window = 0, int64_t first_key = 0) {
  Problem p{n_keys,
            n_queries,
            k_dim,
            v_dim,
            soft_cap,
            first_key,
            floats(1, int64_t{n_keys} * k_dim, 2),
            floats(2, int64_t{n_keys} * v_dim),
            floats(3, int64_t{n_queries} * k_dim, 0.5f),
            {},
            {}};
  for (int i = 0; i < n_queries; ++i) {
    p.hi.push_back(first_key + std::max(0, n_keys - n_queries + 1 + i));
    p.lo.push_back(window ? std::max<int64_t>(0, p.hi.back() - window) : 0);
  }
  return p;
}

struct Output {
  std::vector<float> top, sum, out;
  std::vector<float> all() const {
    auto r = top;
    r.insert(r.end(), sum.begin(), sum.end());
    r.insert(r.end(), out.begin(), out.end());
    return r;
  }
};

Output run(const Problem& p, const AttentionKernels& kernels, int begin, int end) {
  const int n = end - begin, v_stride = value_stride(p.v_dim);
  std::vector<std::vector<uint16_t>> keys, values;
  std::vector<const uint16_t*> key_at, value_at;
  for (int b = 0; b < p.n_blocks(); ++b) {
    keys.emplace_back(key_page_elems(p.k_dim), 0x7bff);  // 65504: loud, should it be heard
    values.emplace_back(value_page_elems(p.v_dim), 0x7bff);
    for (int t = 0; t < kPageTokens && b * kPageTokens + t < p.n_keys; ++t) {
      kernels.store_key(&p.k[int64_t{b * kPageTokens + t} * p.k_dim], p.k_dim, t,
                        keys.back().data());
      kernels.store_value(&p.v[int64_t{b * kPageTokens + t} * p.v_dim], p.v_dim, t,
                          values.back().data());
    }
  }
  for (int b = 0; b < p.n_blocks(); ++b) {
    key_at.push_back(keys[b].data());
    value_at.push_back(values[b].data());
  }
  std::vector<float> q(int64_t{p.k_dim} * n), lanes(n * 16);
  std::vector<const float*> rows;
  for (int i = begin; i < end; ++i) rows.push_back(&p.q[i * p.k_dim]);
  kernels.pack_queries(rows.data(), n, p.k_dim, p.soft_cap > 0 ? 1 : kLog2e, q.data());
  Output o{std::vector<float>(n, 7), std::vector<float>(n, 7),
           std::vector<float>(int64_t{n} * v_stride, 7)};
  kernels.split({.keys = key_at.data(),
                 .values = value_at.data(),
                 .first_key = p.first_key,
                 .n_blocks = p.n_blocks(),
                 .n_queries = n,
                 .k_dim = p.k_dim,
                 .v_dim = p.v_dim,
                 .queries = q.data(),
                 .lo = p.lo.data() + begin,
                 .hi = p.hi.data() + begin,
                 .soft_cap = p.soft_cap,
                 .top = o.top.data(),
                 .sum = o.sum.data(),
                 .out = o.out.data(),
                 .lanes = lanes.data()});
  // Past v_dim lies what pads the values.
  for (int i = 0; i < n; ++i)
    std::fill(o.out.begin() + i * v_stride + p.v_dim, o.out.begin() + (i + 1) * v_stride, 0.0f);
  return o;
}
Output run(const Problem& p, const AttentionKernels& kernels) {
  return run(p, kernels, 0, p.n_queries);
}

// x rounded to f16: 11 bits, no finer than 2^-24.
double stored(float x) {
  int exponent;
  std::frexp(x, &exponent);
  const int unit = std::max(exponent - 11, -24);
  return std::ldexp(std::nearbyint(std::ldexp(x, -unit)), unit);
}

class AttentionTest : public IsaTest {
 protected:
  const AttentionKernels& kernels = attention_kernels(GetParam());
};
INSTANTIATE_TEST_SUITE_P(Isas, AttentionTest, testing::ValuesIn(runnable_isas()), isa_label);

std::vector<Problem> problems() {
  std::vector<Problem> all;
  for (const int n_keys : {1, 2, 16, 63, 64, 65, 127, 129, 511, 512}) {
    all.push_back(make(n_keys, 1, 16, 16));
    all.push_back(make(n_keys, 5, 24, 20));
    all.push_back(make(n_keys, 12, 7, 33, 1.5f));
    all.push_back(make(n_keys, 25, 9, 48, 0, 30));
    all.push_back(make(n_keys, 3, 64, 80, 0, 100, 1024));
  }
  for (int n_queries = 1; n_queries <= 40; ++n_queries) all.push_back(make(70, n_queries, 10, 17));
  return all;
}

TEST_P(AttentionTest, SplitIsTheSoftmaxOfItsKeys) {
  for (const Problem& p : problems()) {
    const Output o = run(p, kernels);
    const int v_stride = value_stride(p.v_dim);
    for (int i = 0; i < p.n_queries; ++i) {
      std::vector<double> s;
      double largest = 0;
      for (int64_t j = p.lo[i]; j < p.hi[i]; ++j) {
        if (j < p.first_key) continue;
        double sum = 0, size = 0;
        for (int d = 0; d < p.k_dim; ++d) {
          const double term = p.q[i * p.k_dim + d] * stored(p.k[(j - p.first_key) * p.k_dim + d]);
          sum += term;
          size += std::fabs(term);
        }
        largest = std::max(largest, size);
        s.push_back(p.soft_cap > 0 ? p.soft_cap * std::tanh(sum / p.soft_cap) : sum);
      }
      if (s.empty()) {
        EXPECT_EQ(o.top[i], kNoScore);
        EXPECT_EQ(o.sum[i], 0.0f);
        for (int d = 0; d < p.v_dim; ++d) EXPECT_EQ(o.out[i * v_stride + d], 0.0f);
        continue;
      }
      const double top = *std::max_element(s.begin(), s.end());
      // Roundings of a score (k_dim + 4 of its largest partial sum), of the exponential, and of
      // sums over up to 512 keys.
      const double limit =
          2 * (p.k_dim + 8) * 0x1p-24 * largest + 1e-6 + static_cast<double>(s.size()) * 0x1p-24;
      EXPECT_NEAR(o.top[i], top * M_LOG2E, (std::fabs(top) + largest) * (p.k_dim + 8) * 0x1p-23);
      double sum = 0;
      for (double& v : s) sum += v = std::exp(v - top);
      EXPECT_NEAR(o.sum[i], sum, sum * limit) << p.n_keys << " keys";
      const int64_t first = std::max(p.lo[i], p.first_key) - p.first_key;
      for (int d = 0; d < p.v_dim; ++d) {
        double mixed = 0;
        for (size_t j = 0; j < s.size(); ++j)
          mixed += s[j] * stored(p.v[(first + j) * p.v_dim + d]);
        ASSERT_NEAR(o.out[i * v_stride + d], mixed, sum * limit)
            << p.n_keys << " keys, " << p.n_queries << " queries";
      }
    }
  }
}

TEST_P(AttentionTest, SameBitsAsPortable) {
  for (const Problem& p : problems())
    ASSERT_TRUE(same_bits(run(p, kernels).all(), run(p, attention_kernels(Isa::kPortable)).all()))
        << p.n_keys << " keys, " << p.n_queries << " queries";
}

// Alone, or in any register tile of queries.
TEST_P(AttentionTest, NeighboursInATileDoNotShow) {
  for (const Problem& p :
       {make(130, 31, 24, 20), make(512, 13, 16, 16, 2.0f), make(200, 29, 8, 40, 0, 50)}) {
    const Output together = run(p, kernels);
    const int v_stride = value_stride(p.v_dim);
    for (int i = 0; i < p.n_queries; ++i) {
      const Output alone = run(p, kernels, i, i + 1);
      EXPECT_TRUE(same_bits(alone.top.data(), &together.top[i], 1));
      EXPECT_TRUE(same_bits(alone.sum.data(), &together.sum[i], 1));
      EXPECT_TRUE(same_bits(alone.out.data(), &together.out[i * v_stride], v_stride)) << i;
    }
    EXPECT_FALSE(
        same_bits(&together.out[0], &together.out[v_stride], p.v_dim));  // it could be seen
  }
}

TEST_P(AttentionTest, MergeAddsTwoSplits) {
  const int n = 32;
  const auto a = floats(5, n), b = floats(6, n);
  for (const auto& [top_a, top_b] :
       {std::pair{3.0f, 5.5f}, {5.5f, 3.0f}, {-200.0f, 100.0f}, {1.0f, 1.0f}}) {
    float top = top_a, sum = 2.5f;
    auto out = a;
    kernels.merge(&top, &sum, out.data(), top_b, 1.5f, b.data(), n);
    const double high = std::max(top_a, top_b), fa = std::exp2(top_a - high),
                 fb = std::exp2(top_b - high);
    EXPECT_EQ(top, high);
    EXPECT_NEAR(sum, 2.5 * fa + 1.5 * fb, 1e-6);
    for (int i = 0; i < n; ++i) EXPECT_NEAR(out[i], a[i] * fa + b[i] * fb, 1e-6);
    float plain_top = top_a, plain_sum = 2.5f;
    auto plain = a;
    attention_kernels(Isa::kPortable)
        .merge(&plain_top, &plain_sum, plain.data(), top_b, 1.5f, b.data(), n);
    EXPECT_TRUE(same_bits(out, plain));
    EXPECT_EQ(sum, plain_sum);
  }
  // A split that sees nothing changes nothing; onto nothing, a split is itself.
  float top = 3, sum = 2;
  auto out = a;
  kernels.merge(&top, &sum, out.data(), kNoScore, 0, b.data(), n);
  EXPECT_TRUE(top == 3 && sum == 2 && same_bits(out, a));
  top = kNoScore, sum = 0;
  std::fill(out.begin(), out.end(), 0.0f);
  kernels.merge(&top, &sum, out.data(), 3, 2, b.data(), n);
  EXPECT_TRUE(top == 3 && sum == 2 && same_bits(out, b));
}

TEST_P(AttentionTest, StoringSaturates) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  const std::vector<float> x = {1e6f, -1e6f, kInf, -kInf, 65519, 65521, 1,  -0.0f, 2, 3,
                                4,    5,     6,    7,     8,     9,     10, 1e9f,  11};
  std::vector<uint16_t> key(key_page_elems(19)), value(value_page_elems(19));
  kernels.store_key(x.data(), 19, 37, key.data());
  kernels.store_value(x.data(), 19, 37, value.data());
  for (int i = 0; i < 19; ++i) {
    const double expected = std::clamp<double>(x[i], -65504, 65504);
    EXPECT_EQ(f16_value(key[(37 / 16 * 19 + i) * 16 + 37 % 16]), expected) << i;
    EXPECT_EQ(f16_value(value[(i / 16 * kPageTokens + 37) * 16 + i % 16]), expected) << i;
  }
}

}  // namespace
}  // namespace venturi
