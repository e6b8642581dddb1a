#include "ops/order.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "ops/rows.h"

namespace venturi {

namespace {

uint64_t peak_of(const OperatorGraph& graph, const std::vector<int32_t>& order) {
  return live_peak(blocks_in_order(graph, order));
}

// Every order in turn.
template <typename Body>
void each_order(const OperatorGraph& graph, std::vector<int32_t>& order, std::vector<char>& ran, const Body& body) {
  if (order.size() == ran.size()) return body(order);
  for (int32_t i = 0; i < static_cast<int32_t>(ran.size()); ++i) {
    const auto& before = graph.operators[i].before;
    if (ran[i] || !std::all_of(before.begin(), before.end(), [&](int32_t b) { return ran[b]; })) continue;
    ran[i] = 1;
    order.push_back(i);
    each_order(graph, order, ran, body);
    order.pop_back();
    ran[i] = 0;
  }
}

struct Least {
  uint64_t live = UINT64_MAX, placed = UINT64_MAX;
  int64_t orders = 0;
};

Least least_of_all(const OperatorGraph& graph, bool place) {
  Least least;
  std::vector<int32_t> order;
  std::vector<char> ran(graph.operators.size());
  each_order(graph, order, ran, [&](const std::vector<int32_t>& o) {
    ++least.orders;
    const auto blocks = blocks_in_order(graph, o);
    least.live = std::min(least.live, live_peak(blocks));
    if (place) least.placed = std::min(least.placed, place_exact(blocks).placement.peak);
  });
  return least;
}

// Each operator makes a block or two, takes some of those before, and may have to follow others besides.
OperatorGraph random_graph(std::mt19937& random, int n, int takes) {
  OperatorGraph graph;
  for (int i = 0; i < n; ++i) {
    Operator op{.name = "op", .before = {}, .makes = {}, .takes = {}, .scratch = random() % 3 == 0 ? 64 * (random() % 5) : 0};
    const auto n_blocks = static_cast<int32_t>(graph.blocks.size());
    for (int k = 0; n_blocks > 0 && k < takes; ++k) {
      const auto b = static_cast<int32_t>(random() % static_cast<unsigned>(n_blocks));
      if (random() % 3 == 0 || std::find(op.takes.begin(), op.takes.end(), b) != op.takes.end()) continue;
      op.takes.push_back(b);
      for (int32_t j = 0; j < i; ++j)
        if (const auto& made = graph.operators[j].makes; std::find(made.begin(), made.end(), b) != made.end())
          op.before.push_back(j);
    }
    if (i > 0 && random() % 6 == 0) op.before.push_back(static_cast<int32_t>(random() % static_cast<unsigned>(i)));
    for (uint64_t k = random() % 8; k < 9; k += 7) {  // one, seldom two
      op.makes.push_back(static_cast<int32_t>(graph.blocks.size()));
      graph.blocks.push_back(64 * (1 + random() % 20));
    }
    graph.operators.push_back(std::move(op));
  }
  return graph;
}

// A chain of operators from block to block.
OperatorGraph chain(const std::vector<uint64_t>& bytes) {
  OperatorGraph graph{.blocks = bytes, .operators = {}};
  for (int32_t i = 0; i < static_cast<int32_t>(bytes.size()); ++i) {
    Operator op{.name = "op", .before = {}, .makes = {i}, .takes = {}};
    if (i > 0) op.before = op.takes = {i - 1};
    graph.operators.push_back(op);
  }
  return graph;
}

}  // namespace

// The example of Liberis and Lane, "Neural networks on microcontrollers: saving memory at inference via operator
// reordering" (2019): two branches of a small network, which take 5,216 bytes one after the other as given, and 4,960
// at best.
TEST(Order, APublishedExample) {
  const OperatorGraph graph{
      .blocks = {1568, 3136, 1568, 512, 512, 256, 256, 512},
      .operators = {{"input", {}, {0}, {}}, {"1", {0}, {1}, {0}}, {"2", {1}, {2}, {1}}, {"3", {2}, {3}, {2}},
                    {"4", {1}, {4}, {1}}, {"5", {3}, {5}, {3}}, {"6", {4}, {6}, {4}}, {"7", {5, 6}, {7}, {5, 6}}}};
  EXPECT_EQ(peak_of(graph, program_order(graph)), 5216u);
  const ExactOrder found = find_order(graph);
  EXPECT_TRUE(found.proved);
  EXPECT_EQ(found.peak, 4960u);
  EXPECT_EQ(peak_of(graph, found.order), 4960u);
  EXPECT_EQ(place_exact(blocks_in_order(graph, found.order)).placement.peak, 4960u);
}

TEST(Order, TheLeastOfAllOrders) {
  std::mt19937 random(5);
  int64_t orders = 0;
  int better = 0, greedy_worse = 0;
  for (int round = 0; round < 400; ++round) {
    const OperatorGraph graph = random_graph(random, 2 + static_cast<int>(random() % 7), 1 + static_cast<int>(random() % 3));
    const Least least = least_of_all(graph, false);
    orders += least.orders;
    const ExactOrder found = find_order(graph);
    const auto greedy = greedy_order(graph);
    ASSERT_TRUE(is_order(graph, found.order));
    ASSERT_TRUE(is_order(graph, greedy));
    ASSERT_TRUE(found.proved) << "round " << round;
    ASSERT_EQ(found.peak, least.live) << "round " << round;
    ASSERT_EQ(found.peak, peak_of(graph, found.order));
    better += found.peak < peak_of(graph, program_order(graph));
    greedy_worse += found.peak < peak_of(graph, greedy);
  }
  // The graphs are such that it matters.
  EXPECT_GT(better, 50);
  EXPECT_GT(greedy_worse, 10);
  EXPECT_GT(orders, 10'000);
}

// No order and placement together are below the bound; that of the order found is seldom above the least of all.
TEST(Order, WithPlacement) {
  std::mt19937 random(6);
  int apart = 0;
  for (int round = 0; round < 60; ++round) {
    const OperatorGraph graph = random_graph(random, 6, 2);
    const Least least = least_of_all(graph, true);
    const ExactOrder found = find_order(graph);
    const ExactPlacement placed = place_exact(blocks_in_order(graph, found.order));
    EXPECT_LE(found.bound, least.placed);
    EXPECT_GE(placed.placement.peak, least.placed);
    apart += placed.placement.peak > least.placed;
  }
  EXPECT_LE(apart, 6);
}

TEST(Order, UnprovedIsTold) {
  std::mt19937 random(7);
  int unproved = 0;
  for (int round = 0; round < 60; ++round) {
    const OperatorGraph graph = random_graph(random, 8, 2);
    const Least least = least_of_all(graph, false);
    for (const int64_t states : {1, 4, 12}) {
      const ExactOrder found = find_order(graph, states);
      ASSERT_TRUE(is_order(graph, found.order));
      ASSERT_EQ(found.peak, peak_of(graph, found.order));
      ASSERT_LE(found.peak, peak_of(graph, program_order(graph)));
      ASSERT_LE(found.bound, least.live);
      ASSERT_GE(found.peak, least.live);
      ASSERT_EQ(found.proved, found.bound == found.peak);
      unproved += !found.proved;
    }
  }
  EXPECT_GT(unproved, 0);
  // More operators side by side than a part may have.
  const OperatorGraph wide = random_graph(random, 90, 1);
  const ExactOrder found = find_order(wide);
  EXPECT_TRUE(is_order(wide, found.order));
  EXPECT_LE(found.bound, found.peak);
  EXPECT_LE(found.peak, peak_of(wide, program_order(wide)));
}

TEST(Order, AChainHasOne) {
  const OperatorGraph graph = chain({640, 128, 1280, 256});
  const ExactOrder found = find_order(graph);
  EXPECT_EQ(found.order, program_order(graph));
  EXPECT_EQ(found.peak, 1280u + 256u);
  EXPECT_TRUE(found.proved);
  EXPECT_FALSE(is_order(graph, std::vector<int32_t>{1, 0, 2, 3}));
  EXPECT_FALSE(is_order(graph, std::vector<int32_t>{0, 1, 2}));
  EXPECT_FALSE(is_order(graph, std::vector<int32_t>{0, 1, 1, 3}));
  EXPECT_TRUE(find_order({}).proved);
}

// What ops tell of themselves in shape mode: who made a block, who changes it, what is scratch.
TEST(Order, OfAPass) {
  const auto context = Context::shape(1);
  VectorWeight weight{.name = "w", .n = 64};
  {
    Act x = context->allocate(1, 64);
    const Context::Scope made(*context, {.op = "make"}, {}, {&x});
    const Act y = rms_norm(*context, x, weight, 1e-5f);
    {
      const Act scratch = context->allocate(1, 32);
      const Context::Scope changed(*context, {.op = "change"}, {&y}, {&x});
    }
    const Act z = rms_norm(*context, x, weight, 1e-5f);
    const Context::Group group(*context, {&z});
    const Act inner = take_columns(*context, z, 0, 16);
    const Act other = take_columns(*context, inner, 0, 16);
  }
  const OperatorGraph graph = operators_of(*context);
  ASSERT_EQ(graph.operators.size(), 5u);
  EXPECT_EQ(graph.operators[0].makes, std::vector<int32_t>{0});
  EXPECT_EQ(graph.operators[1].before, std::vector<int32_t>{0});
  EXPECT_EQ(graph.operators[1].makes, std::vector<int32_t>{1});
  EXPECT_EQ(graph.operators[1].takes, std::vector<int32_t>{0});
  // What is changed waits for who reads it.
  EXPECT_EQ(graph.operators[2].name, "change");
  EXPECT_EQ(graph.operators[2].before, (std::vector<int32_t>{1, 0}));
  EXPECT_EQ(graph.operators[2].scratch, 128u);
  EXPECT_EQ(graph.operators[3].before, std::vector<int32_t>{2});
  EXPECT_EQ(graph.operators[4].name, "group");
  EXPECT_EQ(graph.operators[4].before, std::vector<int32_t>{3});
  EXPECT_EQ(graph.operators[4].scratch, 64u + 64u);
  EXPECT_EQ(graph.operators[4].makes, std::vector<int32_t>{});
  EXPECT_EQ(find_order(graph).peak, peak_of(graph, program_order(graph)));
}

}  // namespace venturi
