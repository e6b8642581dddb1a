// The router against a plain restatement of each published rule, and its choices where scores tie
// or are not numbers.
#include "ops/moe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

namespace venturi {

namespace {

using testing::ElementsAre;

class Router : public testing::Test {
 protected:
  Routes run(const RouterParams& params, const std::vector<float>& logits) {
    const int64_t rows = static_cast<int64_t>(logits.size()) / params.n_experts;
    Act act = context_->allocate(rows, params.n_experts);
    std::copy(logits.begin(), logits.end(), act.data());
    return route(*context_, params, act);
  }

  std::shared_ptr<Ledger> ledger_ = Ledger::create();
  std::unique_ptr<Context> context_ =
      Context::run(ledger_, std::make_shared<ThreadPool>(2), 1 << 20).value();
};

TEST_F(Router, TiesGoToTheLowerIndex) {
  const RouterParams params{.gate = RouterParams::Gate::kSoftmaxChosen, .n_experts = 5, .top_k = 3};
  EXPECT_THAT(run(params, {1, 2, 1, 2, 1}).expert, ElementsAre(1, 3, 0));
  EXPECT_THAT(run(params, {0, 0, 0, 0, 0}).expert, ElementsAre(0, 1, 2));
}

TEST_F(Router, WhateverTheScoresDifferentExpertsComeOut) {
  const float nan = std::numeric_limits<float>::quiet_NaN(),
              inf = std::numeric_limits<float>::infinity();
  for (const auto gate : {RouterParams::Gate::kSoftmax, RouterParams::Gate::kSoftmaxChosen,
                          RouterParams::Gate::kSigmoid})
    for (const std::vector<float>& logits :
         {std::vector<float>{nan, nan, nan, nan}, {inf, -inf, nan, 0}, {-inf, -inf, -inf, -inf}}) {
      auto expert =
          run({.gate = gate, .n_experts = 4, .top_k = 4, .normalise = true}, logits).expert;
      std::sort(expert.begin(), expert.end());
      EXPECT_THAT(expert, ElementsAre(0, 1, 2, 3));
    }
}

TEST_F(Router, SoftmaxOverAllOrOverTheChosen) {
  const std::vector<float> logits{std::log(1.0f), std::log(4.0f), std::log(2.0f), std::log(1.0f)};
  const auto near = [](float x) { return testing::FloatNear(x, 1e-6f); };
  RouterParams params{.n_experts = 4, .top_k = 2};
  EXPECT_THAT(run(params, logits).weight, ElementsAre(near(0.5f), near(0.25f)));
  params.scale = 3;
  EXPECT_THAT(run(params, logits).weight, ElementsAre(near(1.5f), near(0.75f)));
  params.normalise = true;
  EXPECT_THAT(run(params, logits).weight, ElementsAre(near(2.0f), near(1.0f)));
  params = {.gate = RouterParams::Gate::kSoftmaxChosen, .n_experts = 4, .top_k = 2};
  EXPECT_THAT(run(params, logits).weight, ElementsAre(near(2 / 3.0f), near(1 / 3.0f)));
}

TEST_F(Router, TheBiasChoosesButDoesNotWeigh) {
  VectorWeight bias;
  bias.values = {0, 0, 10, 0};
  bias.n = 4;
  const RouterParams params{
      .gate = RouterParams::Gate::kSigmoid, .n_experts = 4, .top_k = 2, .selection_bias = &bias};
  const Routes routes = run(params, {0, 3, -1, 2});
  EXPECT_THAT(routes.expert, ElementsAre(2, 1));
  EXPECT_NEAR(routes.weight[0], 1 / (1 + std::exp(1.0)), 1e-6);
  EXPECT_NEAR(routes.weight[1], 1 / (1 + std::exp(-3.0)), 1e-6);
}

TEST_F(Router, GroupsByTheirBestOrTheirTwoBest) {
  // Group 0 has the best expert; group 1 the best pair.
  const std::vector<float> logits{4, -9, -9, 3, 3, -9, 0, 0, 0};
  RouterParams params{.gate = RouterParams::Gate::kSigmoid,
                      .n_experts = 9,
                      .top_k = 2,
                      .n_groups = 3,
                      .n_groups_used = 1};
  EXPECT_THAT(run(params, logits).expert, ElementsAre(0, 1));
  VectorWeight bias;
  bias.values.assign(9, 0.0f);
  bias.n = 9;
  params.selection_bias = &bias;
  EXPECT_THAT(run(params, logits).expert, ElementsAre(3, 4));
}

TEST_F(Router, RowsDoNotSeeEachOther) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  const RouterParams params{.n_experts = 60, .top_k = 6, .normalise = true};
  std::vector<float> logits(100 * 60);
  for (float& x : logits) x = normal(random);
  const Routes all = run(params, logits);
  for (int r = 0; r < 100; ++r) {
    const Routes one = run(params, {logits.begin() + r * 60, logits.begin() + (r + 1) * 60});
    for (int i = 0; i < 6; ++i) {
      EXPECT_EQ(one.expert[i], all.expert[r * 6 + i]);
      EXPECT_EQ(one.weight[i], all.weight[r * 6 + i]);
    }
    EXPECT_NEAR(std::accumulate(one.weight.begin(), one.weight.end(), 0.0), 1, 1e-6);
  }
}

}  // namespace

}  // namespace venturi
