#include "ops/placement.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>

#include "ops/context.h"

namespace venturi {

namespace {

// The least peak by brute force: first fit over every order of the blocks, each beside all it lives
// with. Some order gives an optimum: that of the offsets of a placement pushed down.
uint64_t least_peak(const std::vector<Block>& blocks) {
  std::vector<size_t> order(blocks.size());
  std::iota(order.begin(), order.end(), size_t{0});
  uint64_t best = UINT64_MAX;
  do {
    std::vector<uint64_t> offsets(blocks.size());
    uint64_t peak = 0;
    for (size_t n = 0; n < order.size(); ++n) {
      uint64_t at = 0;
      for (bool moved = true; moved;) {
        moved = false;
        for (size_t m = 0; m < n; ++m) {
          const Block &a = blocks[order[m]], &b = blocks[order[n]];
          const uint64_t o = offsets[order[m]];
          if (a.live_with(b) && at < o + a.bytes && o < at + b.bytes) {
            at = o + a.bytes;
            moved = true;
          }
        }
      }
      offsets[order[n]] = at;
      peak = std::max(peak, at + blocks[order[n]].bytes);
    }
    best = std::min(best, peak);
  } while (std::next_permutation(order.begin(), order.end()));
  return best;
}

std::vector<Block> random_blocks(std::mt19937& random, int n, int64_t span) {
  std::vector<Block> blocks;
  for (int i = 0; i < n; ++i) {
    const int64_t begin = static_cast<int64_t>(random() % span);
    blocks.push_back({64 * (1 + random() % 9), begin, begin + 1 + static_cast<int64_t>(random() % 5)});
  }
  return blocks;
}

}  // namespace

TEST(Placement, AChainNeedsItsTwoLargestNeighbours) {
  // Each block is made from the one before, which then goes.
  const std::vector<Block> chain = {{640, 0, 2}, {128, 1, 3}, {1280, 2, 4}, {256, 3, 5}};
  EXPECT_EQ(live_peak(chain), 1280u + 256u);
  const ExactPlacement exact = place_exact(chain);
  EXPECT_TRUE(exact.proved);
  EXPECT_TRUE(is_valid(chain, exact.placement));
  EXPECT_EQ(exact.placement.peak, 1280u + 256u);
}

TEST(Placement, FirstFitLeavesAHoleThatForesightDoesNot) {
  // A small block dies under one that stays; the large one that follows does not fit the hole.
  const std::vector<Block> blocks = {{64, 0, 2}, {64, 1, 4}, {128, 3, 4}};
  EXPECT_EQ(place_first_fit(blocks).peak, 256u);
  EXPECT_EQ(live_peak(blocks), 192u);
  EXPECT_EQ(place_exact(blocks).placement.peak, 192u);
}

TEST(Placement, OverlapIsNotValid) {
  const std::vector<Block> blocks = {{64, 0, 2}, {64, 1, 3}};
  EXPECT_TRUE(is_valid(blocks, {{0, 64}, 128}));
  EXPECT_FALSE(is_valid(blocks, {{0, 32}, 96}));
  EXPECT_FALSE(is_valid(blocks, {{0, 64}, 64}));
}

TEST(Placement, ExactIsTheLeastByBruteForce) {
  std::mt19937 random(7);
  int above_live = 0;
  for (int round = 0; round < 300; ++round) {
    const auto blocks = random_blocks(random, 2 + static_cast<int>(random() % 6), 6);
    const ExactPlacement exact = place_exact(blocks);
    ASSERT_TRUE(exact.proved);
    ASSERT_TRUE(is_valid(blocks, exact.placement));
    ASSERT_EQ(exact.placement.peak, least_peak(blocks)) << "round " << round;
    above_live += exact.placement.peak > live_peak(blocks);
  }
  RecordProperty("above_live", above_live);
}

TEST(Placement, ManyBlocksAroundOneThatStays) {
  std::mt19937 random(11);
  for (int round = 0; round < 60; ++round) {
    auto blocks = random_blocks(random, 40, 120);
    blocks.push_back({256, round % 3 == 0 ? 20 : -1, 130});
    const Placement first = place_first_fit(blocks), greedy = place_greedy(blocks);
    const ExactPlacement exact = place_exact(blocks, 5000);
    ASSERT_TRUE(is_valid(blocks, first));
    ASSERT_TRUE(is_valid(blocks, greedy));
    ASSERT_TRUE(is_valid(blocks, exact.placement));
    EXPECT_LE(exact.placement.peak, std::min(first.peak, greedy.peak));
    EXPECT_LE(live_peak(blocks), exact.bound);
    EXPECT_LE(exact.bound, exact.placement.peak);
    EXPECT_EQ(exact.proved, exact.bound == exact.placement.peak);
  }
}

TEST(Placement, FirstFitIsWhatTheArenaDoes) {
  const auto context = Context::shape(1);
  {
    Act a = context->allocate(3, 100);
    Act b = context->allocate(1, 7);
    a.reset();
    Act c = context->allocate(2, 200);
    Act d = context->allocate(1, 50);
  }
  const auto trace = context->arena().trace();
  ASSERT_EQ(trace.size(), 4u);
  EXPECT_EQ(trace[0].bytes, 1216u);
  EXPECT_EQ(trace[0].begin, 0);
  EXPECT_EQ(trace[0].end, 2);
  EXPECT_EQ(place_first_fit(trace).peak, context->arena_peak());
}

TEST(Workspace, WhatIsInsideLiesInOneBlock) {
  auto context = Context::run(Ledger::create(), std::make_shared<ThreadPool>(1), 1 << 16).value();
  const auto body = [](Context& c) {
    const Act a = c.allocate(1, 64);
    const Act b = c.allocate(1, 32);
  };
  int whose = 0;
  const uint64_t bytes = context->workspace_bytes(&whose, 1, body);
  EXPECT_EQ(bytes, 256u + 128u);
  Act before = context->allocate(1, 16);
  {
    const Context::Workspace workspace(*context, bytes);
    const Act a = context->allocate(1, 64);
    const Act b = context->allocate(1, 32);
    EXPECT_EQ(a.data(), before.data() + 16);
    EXPECT_EQ(b.data(), a.data() + 64);
    before.reset();  // of outside
    body(*context);  // no room left: outside, and still apart from a and b
  }
  const Act after = context->allocate(1, 16);
  EXPECT_LE(context->arena_peak(), 64u + bytes + 256u + 128u);
  EXPECT_NE(after.data(), nullptr);
}

}  // namespace venturi
