// SRP and the cache rows against plain restatements of their definitions and against values that can
// be worked out by hand.
#include "analysis/routing.h"

#include <gtest/gtest.h>

#include <cmath>

#include "memory/experts/test_traces.h"

namespace venturi {
namespace {

// The definition, window by window and threshold by threshold.
SegmentScore plain_score(const RoutingTrace& trace, int64_t m, int64_t first, int64_t count) {
  SegmentScore best{.window = m};
  for (int64_t a = m; a >= 1; --a) {
    double tp = 0, fp = 0, fn = 0, held = 0, used = 0;
    for (int64_t l = first; l < first + count; ++l)
      for (int64_t start = 0; start + m <= trace.n_tokens(); ++start)
        for (int32_t e = 0; e < trace.n_experts; ++e) {
          int64_t f = 0;
          for (int64_t t = start; t < start + m; ++t)
            for (const int32_t chosen : trace.at(t, l)) f += chosen == e;
          used += static_cast<double>(f);
          if (f >= a) {
            tp += static_cast<double>(f);
            fp += static_cast<double>(m - f);
            held += 1;
          } else {
            fn += static_cast<double>(f);
          }
        }
    const double f1 = tp > 0 ? 2 * tp / (2 * tp + fp + fn) : 0;
    if (tp > 0 && f1 >= best.srp) best = {m, f1, static_cast<double>(m) * held / used, a};
  }
  return best;
}

TEST(SegmentRouting, AgreesWithItsDefinition) {
  for (const unsigned seed : {1u, 2u})
    for (const auto& trace : {uniform_trace(2, 8, 2, 60, seed), sticky_trace(3, 10, 3, 80, 4, seed)})
      for (const int64_t m : {1, 4, 16, 60}) {
        const auto all = segment_routing(trace, m), one = segment_routing(trace, m, 1);
        ASSERT_TRUE(all && one);
        const auto plain_all = plain_score(trace, m, 0, trace.n_layers), plain_one = plain_score(trace, m, 1, 1);
        EXPECT_NEAR(all->srp, plain_all.srp, 1e-12);
        EXPECT_NEAR(all->rho, plain_all.rho, 1e-12);
        EXPECT_EQ(all->threshold, plain_all.threshold);
        EXPECT_NEAR(one->srp, plain_one.srp, 1e-12);
      }
}

TEST(SegmentRouting, WorkedOutByHand) {
  // Always the same experts: one group serves every window, and is just what is used.
  RoutingTrace same{.n_layers = 1, .n_experts = 8, .top_k = 2, .choices = {}};
  for (int t = 0; t < 32; ++t) same.choices.insert(same.choices.end(), {3, 5});
  auto score = segment_routing(same, 16);
  ASSERT_TRUE(score);
  EXPECT_DOUBLE_EQ(score->srp, 1);
  EXPECT_DOUBLE_EQ(score->rho, 1);
  // Never the same one: each expert has f = 1 of m, and serving all gives 2m / (2m + m (m - 1)).
  RoutingTrace never{.n_layers = 1, .n_experts = 32, .top_k = 1, .choices = {}};
  for (int t = 0; t < 32; ++t) never.choices.push_back(t);
  score = segment_routing(never, 4);
  ASSERT_TRUE(score);
  EXPECT_DOUBLE_EQ(score->srp, 8.0 / (8 + 12));
  EXPECT_DOUBLE_EQ(score->rho, 4);
  // Windows of one token are served by what they use.
  EXPECT_DOUBLE_EQ(segment_routing(uniform_trace(2, 9, 3, 20, 1), 1)->srp, 1);
  EXPECT_FALSE(segment_routing(same, 33));
}

// A window so long that frequencies become equal: serving all has F1 = 2p / (p + 1), p = k / E.
TEST(SegmentRouting, UniformRoutingInLongWindows) {
  const auto score = segment_routing(uniform_trace(1, 16, 4, 9000, 3), 4000);
  ASSERT_TRUE(score);
  EXPECT_NEAR(score->srp, 2 * 0.25 / 1.25, 0.01);
}

TEST(CacheRow, HasEveryPolicyAndTheOracles) {
  const auto trace = sticky_trace(4, 16, 4, 200, 3, 2);
  const CacheRow row = cache_rows(trace, std::vector<double>{2})[0];
  EXPECT_EQ(row.slots, 32);
  EXPECT_DOUBLE_EQ(row.rho, 2);
  ASSERT_EQ(row.entries.size(), all_evictions().size() + 2);
  for (const auto& entry : row.entries) {
    EXPECT_LE(entry.pooled.hits, row.entries.back().pooled.hits);
    EXPECT_LE(entry.per_layer.hits, row.entries.back().per_layer.hits);
  }
  EXPECT_EQ(row.entries.back().policy, "optimum");
  EXPECT_EQ(row.entries.back().pooled.hits, simulate_farthest(trace, {.slots = 32}).hits);
}

TEST(Advice, IsWhereTheCurveBends) {
  std::vector<CacheRow> rows;
  const double hits[] = {0.2, 0.6, 0.8, 0.85, 0.9};
  for (int i = 0; i < 5; ++i) {
    CacheRow row{.rho = 1.0 + i, .slots = 8 * (1 + i), .entries = {}};
    row.entries.push_back({"lru", {}, {.demands = 1000, .hits = static_cast<uint64_t>(std::lround(1000 * hits[i]))}});
    row.entries.push_back({"optimum", {}, {.demands = 1000, .hits = 1000}});
    rows.push_back(row);
  }
  const CacheAdvice advice = advise(rows);
  EXPECT_EQ(advice.slots, 24);  // 0.8 is farthest above the chord from 0.2 to 0.9
  EXPECT_EQ(advice.policy, "lru");
  EXPECT_DOUBLE_EQ(advice.hit_rate, 0.8);
}

}  // namespace
}  // namespace venturi
