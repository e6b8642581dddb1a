// The prefix cache against a list of all that was computed: what is found is a prefix of it, with
// its content; pages are conserved.
#include "cache/prefix_cache.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <random>

namespace venturi {
namespace {

const std::vector<SlotSpec> kSlots = {SlotSpec::paged(2, 24, 20), SlotSpec::paged(1, 16, 16)};

struct World {
  std::shared_ptr<StatePool> pool;
  std::unique_ptr<PrefixCache> cache;

  explicit World(int64_t blocks, int sequences, PrefixCacheOptions options = {}) {
    auto ledger = Ledger::create();
    const StatePlan plan =
        plan_state(kSlots, {.tokens = 640, .sequences = sequences, .blocks = blocks});
    pool = StatePool::create(*ledger, kSlots, plan).value();
    EXPECT_TRUE(pool->shares_prefixes());
    EXPECT_EQ(pool->shared_pages(), blocks);
    cache = PrefixCache::create(pool, options).value();
  }
  int64_t to_have() const { return pool->pages_to_have(); }
};

// What a model would store at a position: a function of all tokens up to it.
uint16_t mark(std::span<const int32_t> tokens, int64_t position) {
  uint32_t hash = 17;
  for (int64_t i = 0; i <= position; ++i) hash = hash * 31 + static_cast<uint32_t>(tokens[i]);
  return static_cast<uint16_t>(hash ^ hash >> 16);
}

uint16_t& place(SequenceState& s, int slot, int64_t position) {
  return s.key_page(slot, position / kPageTokens, 0)[position % kPageTokens];
}

bool compute(SequenceState& s, std::span<const int32_t> tokens, int64_t to) {
  const int64_t from = s.length();
  if (to <= from) return true;
  if (!s.prepare(from, to - from)) return false;
  for (int64_t i = from; i < to; ++i)
    for (int slot = 0; slot < 2; ++slot)
      place(s, slot, i) = static_cast<uint16_t>(mark(tokens, i) + slot);
  s.set_length(to);
  return true;
}

void check(SequenceState& s, std::span<const int32_t> tokens) {
  for (int64_t i = 0; i < s.length(); ++i)
    for (int slot = 0; slot < 2; ++slot)
      ASSERT_EQ(place(s, slot, i), static_cast<uint16_t>(mark(tokens, i) + slot)) << i;
}

std::vector<int32_t> text(int n, int seed) {
  std::vector<int32_t> tokens(n);
  for (int i = 0; i < n; ++i) tokens[i] = (i * 7 + seed * (i >= 100)) % 997;
  return tokens;
}

TEST(PrefixCache, FindsFullBlocksAndTheBeginningOfOne) {
  World w(20, 3);
  const auto a = text(300, 1), b = text(300, 2);  // alike in 100 tokens
  PrefixCache::Cursor cursor;
  {
    auto s = w.pool->new_sequence().value();
    ASSERT_TRUE(compute(*s, a, 300));
    w.cache->publish(*s, a, cursor, true);
    EXPECT_EQ(w.to_have(), 15);
  }
  EXPECT_EQ(w.to_have(), 20);
  auto s = w.pool->new_sequence().value();
  EXPECT_EQ(w.cache->attach(*s, a, 299, cursor), 299);
  EXPECT_EQ(s->length(), 299);
  check(*s, a);
  // It shares four blocks and has a copy of the fifth, whose original is idle.
  EXPECT_EQ(w.to_have(), 15);
  auto other = w.pool->new_sequence().value();
  PrefixCache::Cursor of_other;
  EXPECT_EQ(w.cache->attach(*other, b, 299, of_other), 100);
  EXPECT_EQ(of_other.blocks, 1);
  check(*other, b);
  // What it goes on with is not the first one's.
  ASSERT_TRUE(compute(*other, b, 300));
  ASSERT_TRUE(compute(*s, a, 300));
  check(*s, a);
  check(*other, b);
  auto none = w.pool->new_sequence().value();
  const auto unlike = std::vector<int32_t>(200, 5);
  EXPECT_EQ(w.cache->attach(*none, unlike, 199, of_other), 0);
}

TEST(PrefixCache, WhatIsOldestGoesFirstAndLeavesBeforeTheirTrunk) {
  World w(10, 2);
  PrefixCache::Cursor cursor;
  const auto a = text(256, 1), b = std::vector<int32_t>(256, 9);
  for (const auto& tokens : {a, b}) {
    cursor = {};
    auto s = w.pool->new_sequence().value();
    ASSERT_TRUE(compute(*s, tokens, 256));
    w.cache->publish(*s, tokens, cursor, true);
  }
  {
    auto s = w.pool->new_sequence().value();
    ASSERT_TRUE(compute(*s, std::vector<int32_t>(256, 3), 256));  // two blocks of a go
  }
  auto s = w.pool->new_sequence().value();
  EXPECT_EQ(w.cache->attach(*s, a, 255, cursor), 128);
  auto t = w.pool->new_sequence().value();
  EXPECT_EQ(w.cache->attach(*t, b, 255, cursor), 255);
}

TEST(PrefixCache, MovesOutAndBack) {
  World w(8, 2, {.place = testing::TempDir()});
  const auto a = text(300, 1), b = std::vector<int32_t>(500, 3);
  PrefixCache::Cursor cursor, of_other;
  auto s = w.pool->new_sequence().value();
  ASSERT_TRUE(compute(*s, a, 300));
  const auto moved = w.cache->move_out(*s, a, cursor);
  ASSERT_TRUE(moved);
  s.reset();
  auto other = w.pool->new_sequence().value();
  ASSERT_TRUE(compute(*other, b, 500));  // takes every page
  s = w.pool->new_sequence().value();
  EXPECT_FALSE(w.cache->move_in(*s, *moved, cursor).value());
  EXPECT_EQ(s->length(), 0);
  other.reset();
  EXPECT_TRUE(w.cache->move_in(*s, *moved, cursor).value());
  EXPECT_EQ(s->length(), 300);
  check(*s, a);
  w.cache->let_go(*moved);
  EXPECT_GE(w.cache->counters().read_bytes, 4u * 64);
  EXPECT_GT(w.cache->counters().written_bytes, 0u);
}

// What is written beside need not be when the pages are wanted; nothing is written while there are plenty.
TEST(PrefixCache, WritesAheadWherePagesAreShort) {
  World w(32, 4, {.place = testing::TempDir()});
  const auto a = text(640, 1), b = std::vector<int32_t>(640, 3);
  PrefixCache::Cursor cursor, of_other;
  const uint64_t block = w.pool->page(0, 0).size() + w.pool->page(1, 0).size();
  const auto blocks_written = [&] { return w.cache->counters().written_bytes / block; };
  auto s = w.pool->new_sequence().value();
  ASSERT_TRUE(compute(*s, a, 640));
  w.cache->publish(*s, a, cursor, false);
  w.cache->clean();
  w.cache->wait();
  EXPECT_EQ(blocks_written(), 0u);
  auto other = w.pool->new_sequence().value();
  ASSERT_TRUE(compute(*other, b, 640));
  w.cache->publish(*other, b, of_other, false);
  EXPECT_EQ(w.to_have(), 12);
  std::vector<int32_t> taken;
  while (w.to_have() > 2) taken.push_back(*w.pool->take_page());
  for (int i = 0; i < 8; ++i) {
    w.cache->clean();
    w.cache->wait();
  }
  EXPECT_EQ(blocks_written(), 20u);
  EXPECT_FALSE(w.cache->busy());
  const auto moved = w.cache->move_out(*s, a, cursor);
  ASSERT_TRUE(moved);
  EXPECT_EQ(blocks_written(), 20u);
  s.reset();
  for (const int32_t page : taken) w.pool->let_go(page);
  while (w.to_have() > 0) taken.push_back(*w.pool->take_page());
  EXPECT_EQ(blocks_written(), 20u);  // those of the file went first, without a write
}

// Who needs a page that is being written gets it.
TEST(PrefixCache, PagesThatAreBeingWrittenCanBeHad) {
  World w(10, 2, {.place = testing::TempDir()});
  const auto a = text(256, 1);
  PrefixCache::Cursor cursor;
  {
    auto s = w.pool->new_sequence().value();
    ASSERT_TRUE(compute(*s, a, 256));
    w.cache->publish(*s, a, cursor, true);
  }
  std::vector<int32_t> taken;
  while (w.pool->free_pages() > 0) taken.push_back(*w.pool->take_page());
  w.cache->clean();
  EXPECT_TRUE(w.cache->busy());
  EXPECT_EQ(w.to_have(), 4);
  while (w.to_have() > 0) taken.push_back(*w.pool->take_page());
  EXPECT_EQ(taken.size(), 10u);
  for (const int32_t page : taken) w.pool->let_go(page);
  auto s = w.pool->new_sequence().value();
  cursor = {};
  EXPECT_EQ(w.cache->attach(*s, a, 255, cursor), 255);
  check(*s, a);
}

// Pages on their way are counted as taken, and come back whatever becomes of them.
TEST(PrefixCache, ArrivesBesideOthers) {
  World w(12, 2, {.place = testing::TempDir()});
  const auto a = text(300, 1), b = std::vector<int32_t>(640, 3);
  PrefixCache::Cursor cursor, of_other;
  {
    auto s = w.pool->new_sequence().value();
    ASSERT_TRUE(compute(*s, a, 300));
    w.cache->publish(*s, a, cursor, true);
    s.reset();
    auto other = w.pool->new_sequence().value();
    ASSERT_TRUE(compute(*other, b, 600));  // some of a goes to the file
  }
  EXPECT_EQ(w.to_have(), 12);
  cursor = {};
  auto arriving = w.cache->begin_attach(a, 299, cursor);
  ASSERT_TRUE(arriving);
  EXPECT_EQ(PrefixCache::tokens(*arriving), 299);
  EXPECT_EQ(w.to_have(), 7);
  auto other = w.pool->new_sequence().value();
  ASSERT_TRUE(compute(*other, b, 400));  // meanwhile
  w.cache->abandon(std::move(arriving));
  w.cache->wait();
  other.reset();
  EXPECT_EQ(w.to_have(), 12);
  arriving = w.cache->begin_attach(a, 299, cursor);
  ASSERT_TRUE(arriving);
  auto s = w.pool->new_sequence().value();
  ASSERT_TRUE(w.cache->finish(arriving, *s, cursor));
  EXPECT_EQ(s->length(), 299);
  check(*s, a);
}

// What is to be read takes the pages of what has to be written first, and nobody waits for that.
TEST(PrefixCache, ReadsIntoPagesThatAreWrittenFirst) {
  World w(12, 2, {.place = testing::TempDir()});
  const auto a = text(300, 1), b = std::vector<int32_t>(640, 3);
  PrefixCache::Cursor cursor, of_other;
  {
    auto s = w.pool->new_sequence().value();
    ASSERT_TRUE(compute(*s, a, 300));
    w.cache->publish(*s, a, cursor, true);
    s.reset();
    auto other = w.pool->new_sequence().value();
    ASSERT_TRUE(compute(*other, b, 640));  // some of a goes to the file
    w.cache->publish(*other, b, of_other, true);
  }
  const auto written = [&] { return w.cache->counters().written_bytes; };
  const uint64_t before = written();
  EXPECT_EQ(w.pool->free_pages(), 0);
  for (int round = 0; round < 2; ++round) {
    cursor = {};
    auto arriving = w.cache->begin_attach(a, 299, cursor);
    ASSERT_TRUE(arriving);
    EXPECT_EQ(PrefixCache::tokens(*arriving), 299);
    EXPECT_EQ(w.to_have(), 7);
    if (round == 0) {  // given up before the first is written
      w.cache->abandon(std::move(arriving));
      w.cache->wait();
      EXPECT_GT(written(), before);
      EXPECT_EQ(w.to_have(), 12);
      auto other = w.pool->new_sequence().value();  // all in use, and what was read has to be read again
      of_other = {};
      EXPECT_EQ(w.cache->attach(*other, b, 639, of_other), 639);
      check(*other, b);
      continue;
    }
    auto s = w.pool->new_sequence().value();
    ASSERT_TRUE(w.cache->finish(arriving, *s, cursor));
    EXPECT_EQ(s->length(), 299);
    check(*s, a);
  }
  w.cache->wait();
  auto other = w.pool->new_sequence().value();
  of_other = {};
  EXPECT_GT(w.cache->attach(*other, b, 447, of_other), 400);
  check(*other, b);
}

class Random : public testing::TestWithParam<int> {};

TEST_P(Random, ContentIsRightAndPagesAreConserved) {
  std::mt19937 random(GetParam());
  const auto below = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
  PrefixCacheOptions options;
  if (GetParam() % 2) options = {.place = testing::TempDir(), .file_blocks = 5 + below(30)};
  World w(12, 4, options);
  struct Live {
    std::unique_ptr<SequenceState> state;
    std::vector<int32_t> tokens;
    PrefixCache::Cursor cursor;
    std::optional<PrefixCache::Moved> moved;
    std::shared_ptr<PrefixCache::Arriving> arriving = {};
  };
  std::vector<Live> live;
  for (int step = 0; step < 3000; ++step) {
    const int what = below(10);
    if (what < 3 && live.size() < 4) {
      Live l{.state = w.pool->new_sequence().value(),
             .tokens = text(1 + below(600), below(6)),
             .cursor = {},
             .moved = {}};
      const auto most = static_cast<int64_t>(l.tokens.size()) - 1;
      if (step % 2) {
        l.arriving = w.cache->begin_attach(l.tokens, most, l.cursor);
        if (l.arriving) {
          ASSERT_LE(PrefixCache::tokens(*l.arriving), most);
        }
      } else {
        const int64_t found = w.cache->attach(*l.state, l.tokens, most, l.cursor);
        ASSERT_EQ(found, l.state->length());
        ASSERT_LE(found, most);
        check(*l.state, l.tokens);
      }
      live.push_back(std::move(l));
    } else if (!live.empty()) {
      Live& l = live[static_cast<size_t>(below(static_cast<int>(live.size())))];
      if (step % 3 == 0) w.cache->clean();
      if (l.arriving) {
        if (what == 9) {
          w.cache->abandon(std::exchange(l.arriving, nullptr));
          std::swap(l, live.back());
          live.pop_back();
        } else {
          ASSERT_TRUE(w.cache->finish(std::exchange(l.arriving, nullptr), *l.state, l.cursor));
          check(*l.state, l.tokens);
        }
      } else if (l.moved) {
        if (!l.state) l.state = w.pool->new_sequence().value();
        auto back = w.cache->move_in(*l.state, *l.moved, l.cursor);
        ASSERT_TRUE(back);
        if (!*back) {
          if (below(4)) continue;
          l.state->truncate(0);
          l.cursor = {};
        }
        w.cache->let_go(*l.moved);
        l.moved.reset();
        check(*l.state, l.tokens);
      } else if (what < 7) {
        const auto to = std::min<int64_t>(l.state->length() + below(150),
                                          static_cast<int64_t>(l.tokens.size()));
        if (compute(*l.state, l.tokens, to)) w.cache->publish(*l.state, l.tokens, l.cursor, false);
        check(*l.state, l.tokens);
      } else if (what < 8 && l.state->length() > 0) {
        l.moved = w.cache->move_out(*l.state, l.tokens, l.cursor);
        if (l.moved) l.state.reset();
      } else {
        w.cache->publish(*l.state, l.tokens, l.cursor, true);
        std::swap(l, live.back());
        live.pop_back();
      }
    }
    ASSERT_LE(w.to_have(), 12);
    ASSERT_LE(w.cache->counters().file_blocks, 40u);
  }
  for (Live& l : live)
    if (l.moved) w.cache->let_go(*l.moved);
  for (Live& l : live)
    if (l.arriving) w.cache->abandon(std::move(l.arriving));
  live.clear();
  w.cache->wait();
  EXPECT_EQ(w.to_have(), 12);
  // All of it can be had.
  auto s = w.pool->new_sequence().value();
  EXPECT_TRUE(s->reserve(640));
}

INSTANTIATE_TEST_SUITE_P(PrefixCache, Random, testing::Range(1, 9));

}  // namespace
}  // namespace venturi
