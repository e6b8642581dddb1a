#include "scheduler/speculation.h"

#include <gtest/gtest.h>

#include <cmath>

namespace venturi {

namespace {

// A machine that reads its weights in the time of five rows.
const StepCost kCost{.weights_seconds = 25e-3, .per_row_seconds = 5e-3, .per_context_seconds = 1e-8};

double tokens_a_second(const StepCost& cost, const GuessingStream& s, int64_t k, double guess_seconds) {
  double tokens = 1, context = static_cast<double>(s.context);
  for (int64_t i = 1; i <= k; ++i) {
    tokens += std::pow(s.acceptance, i);
    context += static_cast<double>(s.context + i);
  }
  return tokens / (cost.seconds(1 + k, static_cast<int64_t>(context)) + static_cast<double>(k) * guess_seconds);
}

TEST(Speculation, OneStreamGetsTheBestCountOfAll) {
  for (const double acceptance : {0.0, 0.05, 0.3, 0.6, 0.9, 1.0})
    for (const double guess_seconds : {0.0, 2e-3, 10e-3}) {
      const GuessingStream stream{acceptance, 300, 12};
      const int64_t chosen = choose_guesses(kCost, 1, 300, {&stream, 1}, guess_seconds)[0];
      int64_t best = 0;
      for (int64_t k = 1; k <= 12; ++k)
        if (tokens_a_second(kCost, stream, k, guess_seconds) > tokens_a_second(kCost, stream, best, guess_seconds)) best = k;
      EXPECT_EQ(chosen, best) << acceptance << " " << guess_seconds;
    }
}

TEST(Speculation, FewerWhereTheBatchComputes) {
  int64_t last = 100;
  for (const int n : {1, 4, 8, 16, 32}) {
    const std::vector<GuessingStream> streams(n, {0.6, 300, 8});
    const auto chosen = choose_guesses(kCost, n, 300 * n, streams);
    int64_t sum = 0;
    for (const int64_t k : chosen) sum += k;
    EXPECT_LE(sum, last * n) << n;
    last = (sum + n - 1) / n;
  }
  EXPECT_EQ(last, 0);  // a row more takes 5 ms, and gives 0.6 of a token; without it, a token takes 5 ms
}

TEST(Speculation, WhoGuessesWellGuessesMore) {
  const std::vector<GuessingStream> streams{{0.2, 300, 8}, {0.95, 300, 8}, {0.5, 300, 8}, {0.95, 300, 2}};
  const auto chosen = choose_guesses(kCost, 4, 1200, streams);
  EXPECT_GT(chosen[1], chosen[2]);
  EXPECT_GE(chosen[2], chosen[0]);
  EXPECT_LE(chosen[3], 2);
}

TEST(Speculation, AcceptanceFollowsWhatHolds) {
  Acceptance a;
  EXPECT_DOUBLE_EQ(a.rate(), 0.5);
  EXPECT_DOUBLE_EQ(a.rate(0.1), 0.1);
  for (int i = 0; i < 20; ++i) a.learn(4, 4);
  EXPECT_GT(a.rate(), 0.9);
  for (int i = 0; i < 30; ++i) a.learn(4, 0);  // one check each
  EXPECT_LT(a.rate(), 0.15);
  const double low = a.rate();
  a.rest();
  EXPECT_GT(a.rate(), low);
  for (int i = 0; i < 300; ++i) a.rest();
  EXPECT_NEAR(a.rate(), 0.5, 0.01);
  // Three of four: the chance of each is what was tried, not of all that were guessed.
  Acceptance b;
  for (int i = 0; i < 50; ++i) b.learn(8, 3);
  EXPECT_NEAR(b.rate(0.75), 0.75, 0.08);
}

}  // namespace

}  // namespace venturi
