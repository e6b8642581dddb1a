#include "cache/state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <unistd.h>

#include <algorithm>
#include <map>

namespace venturi {
namespace {

const std::vector<SlotSpec> kSlots = {SlotSpec::paged(2, 24, 20), SlotSpec::recurrent(100),
                                      SlotSpec::paged(1, 8, 16)};

std::shared_ptr<StatePool> make_pool(std::vector<SlotSpec> slots, int64_t tokens, int sequences) {
  auto ledger = Ledger::create();
  const StatePlan plan = plan_state(slots, {.tokens = tokens, .sequences = sequences});
  auto pool = StatePool::create(*ledger, std::move(slots), plan);
  EXPECT_TRUE(pool);
  return std::move(pool).value();
}

TEST(State, BytesAreForetold) {
  // 130 tokens are 3 pages of 64; values are padded to 16 elements: 20 -> 32.
  const uint64_t page0 = 2 * 2 * 64 * (24 + 32), page2 = 2 * 64 * (8 + 16);
  // Each slot is a mapping of its own, in whole pages of the machine.
  const auto whole = [](uint64_t bytes) { return (bytes + 4095) / 4096 * 4096; };
  EXPECT_EQ(plan_state(kSlots, {.tokens = 130, .sequences = 2}).bytes,
            whole(6 * page0) + whole(6 * page2) + whole(2 * 400));
  auto ledger = Ledger::create();
  const auto pool =
      StatePool::create(*ledger, kSlots, plan_state(kSlots, {.tokens = 130, .sequences = 2}));
  ASSERT_TRUE(pool);
  EXPECT_EQ(ledger->held(), plan_state(kSlots, {.tokens = 130, .sequences = 2}).bytes);
  auto small = Ledger::create(10000);
  EXPECT_EQ(StatePool::create(*small, kSlots, plan_state(kSlots, {.tokens = 130, .sequences = 2}))
                .error()
                .code,
            Code::kOutOfBudget);
  EXPECT_EQ(small->held(), 0u);
}

// Every part of every page of every living sequence is memory of its own.
TEST(State, NothingOverlaps) {
  auto pool = make_pool(kSlots, 200, 3);
  std::vector<std::unique_ptr<SequenceState>> states;
  std::map<const uint8_t*, int64_t> parts;  // start -> bytes
  for (int s = 0; s < 3; ++s) {
    states.push_back(pool->new_sequence().value());
    SequenceState& state = *states.back();
    ASSERT_TRUE(state.reserve(200));
    for (const int slot : {0, 2})
      for (int64_t block = 0; block < 4; ++block)
        for (int head = 0; head < kSlots[slot].n_kv_heads; ++head) {
          parts[reinterpret_cast<uint8_t*>(state.key_page(slot, block, head))] =
              2 * key_page_elems(kSlots[slot].k_dim);
          parts[reinterpret_cast<uint8_t*>(state.value_page(slot, block, head))] =
              2 * value_page_elems(kSlots[slot].v_dim);
        }
    parts[reinterpret_cast<uint8_t*>(state.recurrent(1))] = 400;
  }
  EXPECT_EQ(parts.size(), 3u * (4 * 4 + 4 * 2 + 1));
  const uint8_t* end = nullptr;
  for (const auto& [begin, bytes] : parts) {
    EXPECT_TRUE(end == nullptr || begin >= end);
    end = begin + bytes;
  }
}

TEST(State, LimitsAreErrors) {
  auto pool = make_pool(kSlots, 100, 1);
  auto state = pool->new_sequence().value();
  EXPECT_EQ(pool->new_sequence().error().code, Code::kOutOfBudget);
  EXPECT_TRUE(state->reserve(100));
  const auto refused = state->reserve(101);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, testing::HasSubstr("context of 100"));
  state.reset();
  EXPECT_TRUE(pool->new_sequence());
}

TEST(State, PagesComeBack) {
  auto pool = make_pool({SlotSpec::paged(1, 8, 8)}, 128, 2);
  for (int round = 0; round < 20; ++round) {
    auto a = pool->new_sequence().value(), b = pool->new_sequence().value();
    ASSERT_TRUE(a->reserve(128));
    ASSERT_TRUE(b->reserve(128));
    a->set_length(128);
    EXPECT_TRUE(a->truncate(64));
    EXPECT_EQ(a->length(), 64);
    ASSERT_TRUE(a->reserve(128));  // the page it gave back
  }
}

TEST(State, TruncationKeepsWhatIsBefore) {
  auto pool = make_pool({SlotSpec::paged(1, 8, 8)}, 256, 1);
  auto state = pool->new_sequence().value();
  ASSERT_TRUE(state->reserve(200));
  state->set_length(200);
  for (int64_t block = 0; block < 4; ++block)
    state->key_page(0, block, 0)[0] = static_cast<uint16_t>(block + 1);
  const uint16_t* second = state->key_page(0, 1, 0);
  EXPECT_TRUE(state->truncate(65));
  ASSERT_TRUE(state->reserve(256));
  EXPECT_EQ(state->key_page(0, 1, 0), second);
  EXPECT_EQ(state->key_page(0, 0, 0)[0], 1);
  EXPECT_EQ(state->key_page(0, 1, 0)[0], 2);
  EXPECT_TRUE(state->truncate(1000));  // longer than it is: nothing to forget
  EXPECT_EQ(state->length(), 65);
}

TEST(State, RecurrentStateCannotBeCut) {
  auto pool = make_pool(kSlots, 100, 1);
  auto state = pool->new_sequence().value();
  ASSERT_TRUE(state->reserve(50));
  state->set_length(50);
  std::fill_n(state->recurrent(1), 100, 3.0f);
  EXPECT_FALSE(state->truncate(49));
  EXPECT_EQ(state->length(), 50);
  EXPECT_EQ(state->recurrent(1)[99], 3.0f);
  EXPECT_TRUE(state->truncate(50));
  EXPECT_EQ(state->recurrent(1)[99], 3.0f);
  EXPECT_TRUE(state->truncate(0));
  for (int i = 0; i < 100; ++i) ASSERT_EQ(state->recurrent(1)[i], 0.0f);

  std::fill_n(state->recurrent(1), 100, 4.0f);
  state.reset();
  EXPECT_EQ(pool->new_sequence().value()->recurrent(1)[0], 0.0f);  // new means new
}

// ---- the file
// ---------------------------------------------------------------------------------------

TEST(State, WhatIsBeyondTheLimitIsPlannedForTheFile) {
  const std::vector<SlotSpec> slots = {SlotSpec::paged(2, 24, 20), SlotSpec::recurrent(100),
                                       SlotSpec::paged(1, 8, 16, 100), SlotSpec::paged(1, 32, 32)};
  const StateShape shape{.tokens = 6400, .sequences = 2, .rows = 100};
  const StatePlan all = plan_state(slots, shape), least = plan_state(slots, shape, 0);
  EXPECT_FALSE(all.spills());
  EXPECT_EQ(all.file_bytes, 0u);
  EXPECT_FALSE(plan_state(slots, shape, all.bytes).spills());
  // 100 rows lie in two whole blocks at most, and each of two sequences has an open one at either
  // end.
  EXPECT_EQ(least.resident_blocks, 1 + 4);
  EXPECT_EQ(least.ring_cells, 2);
  // Pages of 14336 and of 8192 bytes, each on blocks of 4096.
  EXPECT_EQ(least.file_bytes, 200u * (16384 + 8192));
  for (uint64_t limit = least.bytes; limit < all.bytes; limit += 50000) {
    const StatePlan plan = plan_state(slots, shape, limit);
    ASSERT_TRUE(plan.spills());
    ASSERT_LE(plan.bytes, limit);
    // One block more, with the rounding of each buffer, would be too much.
    ASSERT_GT(plan.bytes + 16384 + 8192 + 3 * 4096, std::min(limit, all.bytes - 200000));
    auto ledger = Ledger::create(limit);
    auto pool = StatePool::create(*ledger, slots, plan, testing::TempDir());
    ASSERT_TRUE(pool) << pool.error().message;
    ASSERT_EQ(ledger->held(), plan.bytes);
  }
  // What a single step writes cannot spill.
  EXPECT_FALSE(plan_state(slots, {.tokens = 6400, .sequences = 1}, 0).spills());
  EXPECT_FALSE(plan_state({SlotSpec::recurrent(100)}, shape, 0).spills());
}

// Steps, cuts and ends drawn at random over several sequences in the least memory, against lists.
TEST(State, SpilledPagesComeBackAsTheyWere) {
  const std::vector<SlotSpec> slots = {SlotSpec::paged(2, 24, 20), SlotSpec::paged(1, 8, 8, 70),
                                       SlotSpec::paged(1, 32, 32)};
  for (const bool direct : {true, false}) {
    const StateShape shape{.tokens = 2000, .sequences = 3, .rows = 200};
    auto ledger = Ledger::create();
    auto pool = StatePool::create(*ledger, slots, plan_state(slots, shape, 0), testing::TempDir(),
                                  {.direct = direct})
                    .value();
    struct Model {
      std::unique_ptr<SequenceState> state;
      std::vector<uint16_t> marks;  // [position]
    };
    std::vector<Model> models(3);
    for (Model& m : models) m.state = pool->new_sequence().value();
    uint64_t draw = 7;
    uint16_t mark = 1;
    const auto random = [&](int64_t n) {
      draw = draw * 6364136223846793005ull + 1442695040888963407ull;
      return static_cast<int64_t>((draw >> 33) % static_cast<uint64_t>(n));
    };
    const auto check = [&](Model& m, int slot, int64_t block, const uint16_t* keys) {
      const int64_t end = std::min<int64_t>(
          kPageTokens, static_cast<int64_t>(m.marks.size()) - block * kPageTokens);
      for (int64_t i = 0; i < end; ++i)
        ASSERT_EQ(keys[i], m.marks[block * kPageTokens + i]) << slot << " " << block;
    };
    for (int round = 0; round < 1500; ++round) {
      const int64_t what = random(30);
      if (what == 0) {
        Model& m = models[random(3)];
        m = {};
        m.state = pool->new_sequence().value();
        continue;
      }
      if (what < 3) {
        Model& m = models[random(3)];
        const auto length = static_cast<int64_t>(m.marks.size());
        const int64_t to = std::max<int64_t>(0, length - random(what == 1 ? 300 : 3000));
        if (m.state->truncate(to)) m.marks.resize(static_cast<size_t>(to));
        continue;
      }
      // A step of one to three sequences.
      std::vector<std::pair<Model*, int64_t>> parts;
      for (Model& m : models)
        if (random(2) && static_cast<int64_t>(m.marks.size()) + 66 <= shape.tokens)
          parts.push_back({&m, 1 + random(66)});
      std::vector<SequenceState*> states;
      for (auto& [m, rows] : parts) {
        const auto length = static_cast<int64_t>(m->marks.size());
        const Status prepared = m->state->prepare(length, rows);
        ASSERT_TRUE(prepared) << prepared.error().message;
        states.push_back(m->state.get());
        for (int64_t i = length; i < length + rows; ++i) {
          m->marks.push_back(mark);
          for (int slot = 0; slot < 3; ++slot)
            m->state->key_page(slot, i / kPageTokens, 0)[i % kPageTokens] = mark;
          ++mark;
        }
      }
      const int64_t order = random(10);
      if (order > 0) pool->expect(states);  // else: nobody said what comes
      for (const int slot : {order == 1 ? 2 : 0, order == 1 ? 0 : 2})
        for (auto& [m, rows] : parts) {
          const int64_t spilled = m->state->spilled(slot);
          for (int64_t split = 0; split * kBlocksPerSplit < spilled; ++split) {
            auto pages = m->state->fetch(slot, split);
            ASSERT_TRUE(pages) << pages.error().message;
            for (int64_t b = split * kBlocksPerSplit;
                 b < std::min(spilled, (split + 1) * kBlocksPerSplit); ++b)
              check(*m, slot, b,
                    reinterpret_cast<const uint16_t*>(*pages + b % kBlocksPerSplit *
                                                                   m->state->page_stride(slot)));
            m->state->release();
          }
          for (int64_t b = spilled; b * kPageTokens < static_cast<int64_t>(m->marks.size()); ++b)
            check(*m, slot, b, m->state->key_page(slot, b, 0));
        }
      for (auto& [m, rows] : parts) m->state->set_length(static_cast<int64_t>(m->marks.size()));
      if (testing::Test::HasFatalFailure()) return;
    }
    EXPECT_GT(pool->counters().written_bytes, 1000000u);
    EXPECT_GT(pool->counters().read_bytes, pool->counters().written_bytes);
  }
}

TEST(State, AFullDiskFailsTheStepAndTheNextOneWorks) {
  if (access("/dev/full", W_OK) != 0) GTEST_SKIP() << "no /dev/full";
  const std::vector<SlotSpec> slots = {SlotSpec::paged(1, 32, 32)};
  auto ledger = Ledger::create();
  auto pool = StatePool::create(*ledger, slots,
                                plan_state(slots, {.tokens = 6400, .sequences = 1, .rows = 64}, 0),
                                "/dev/full")
                  .value();
  auto state = pool->new_sequence().value();
  for (int64_t at = 0; at < 192; at += 64) {
    ASSERT_TRUE(state->prepare(at, 64));
    state->set_length(at + 64);
  }
  for (int i = 0; i < 2; ++i) {
    const Status full = state->prepare(192, 64);
    ASSERT_FALSE(full);
    EXPECT_EQ(full.error().code, Code::kIo);
    EXPECT_THAT(full.error().message,
                testing::AllOf(testing::HasSubstr("/dev/full"), testing::HasSubstr("offset 0"),
                               testing::HasSubstr("No space left")));
    EXPECT_EQ(state->length(), 192);
  }
  EXPECT_TRUE(state->truncate(100));
  EXPECT_TRUE(state->prepare(100, 64));
}

// ---- windows
// ----------------------------------------------------------------------------------------

TEST(State, AWindowIsPlannedAsWindowAndStep) {
  const SlotSpec all = SlotSpec::paged(2, 32, 32), windowed = SlotSpec::paged(2, 32, 32, 100);
  const auto bytes = [](const SlotSpec& slot, const StateShape& shape) {
    return plan_state({slot}, shape).bytes;
  };
  // 99 tokens before a step's first and 65 of the step touch 4 pages of 64 at most: from 63 of a
  // page on.
  const StateShape shape{.tokens = 6400, .sequences = 3, .rows = 65};
  EXPECT_EQ(bytes(windowed, shape), 3 * 4 * windowed.page_bytes());
  EXPECT_EQ(bytes(all, shape), 3 * 100 * all.page_bytes());
  // Never more than everything.
  for (const StateShape& s : {StateShape{.tokens = 130, .rows = 130}, StateShape{.tokens = 130}})
    EXPECT_EQ(bytes(windowed, s), bytes(all, s));
}

// Steps, cuts and ends drawn at random over several sequences, against a list of what each must
// still hold.
TEST(State, WindowsKeepWhatIsSeen) {
  for (const int64_t window : {1, 5, 64, 65, 200}) {
    const std::vector<SlotSpec> slots = {SlotSpec::paged(1, 8, 8),
                                         SlotSpec::paged(1, 8, 8, window)};
    const StateShape shape{.tokens = 900, .sequences = 3, .rows = 70};
    auto ledger = Ledger::create();
    auto pool = StatePool::create(*ledger, slots, plan_state(slots, shape)).value();
    struct Model {
      std::unique_ptr<SequenceState> state;
      int64_t length = 0, last_step = 0;
      std::vector<uint16_t> marks;  // [position]
    };
    std::vector<Model> models(3);
    for (Model& m : models) m.state = pool->new_sequence().value();
    const auto at = [](SequenceState& s, int slot, int64_t position) -> uint16_t& {
      return s.key_page(slot, position / kPageTokens, 0)[position % kPageTokens];
    };
    uint64_t draw = 1;
    uint16_t mark = 1;
    const auto random = [&](int64_t n) {
      draw = draw * 6364136223846793005ull + 1442695040888963407ull;
      return static_cast<int64_t>((draw >> 33) % static_cast<uint64_t>(n));
    };
    for (int round = 0; round < 2000; ++round) {
      Model& m = models[random(3)];
      const int64_t what = random(20);
      if (what == 0) {
        m = {};
        m.state = pool->new_sequence().value();
      } else if (what < 4) {
        const int64_t to = random(m.length + 1);
        const bool cut = m.state->truncate(to);
        if (to >= m.last_step || to == 0) {
          ASSERT_TRUE(cut);
        }
        if (cut) m.length = to, m.last_step = std::min(m.last_step, to);
      } else {
        const int64_t rows = 1 + random(70);
        const auto prepared = m.state->prepare(m.length, rows);
        ASSERT_EQ(prepared.ok(), m.length + rows <= shape.tokens);
        if (!prepared) continue;
        m.marks.resize(static_cast<size_t>(m.length));
        for (int64_t i = m.length; i < m.length + rows; ++i) {
          m.marks.push_back(mark);
          for (const int slot : {0, 1}) at(*m.state, slot, i) = mark;
          ++mark;
        }
        for (int64_t i = 0; i < m.length + rows; ++i) {
          ASSERT_EQ(at(*m.state, 0, i), m.marks[i]);
          if (i > m.length - window) {
            ASSERT_EQ(at(*m.state, 1, i), m.marks[i]) << window << " at " << i;
          }
        }
        m.last_step = m.length;
        m.length += rows;
        m.state->set_length(m.length);
      }
    }
  }
}

TEST(State, AWindowThatMovedOnCannotGoBack) {
  auto ledger = Ledger::create();
  const std::vector<SlotSpec> slots = {SlotSpec::paged(1, 8, 8, 64)};
  auto pool = StatePool::create(*ledger, slots,
                                plan_state(slots, {.tokens = 1000, .sequences = 1, .rows = 100}))
                  .value();
  auto state = pool->new_sequence().value();
  EXPECT_TRUE(state->whole());
  for (int64_t at = 0; at < 300; at += 100) {
    ASSERT_TRUE(state->prepare(at, 100));
    state->set_length(at + 100);
  }
  EXPECT_FALSE(state->whole());
  EXPECT_TRUE(state->truncate(200));  // the last step
  EXPECT_FALSE(state->truncate(100));
  EXPECT_EQ(state->length(), 200);
  EXPECT_EQ(state->prepare(100, 1).error().code, Code::kInvalidArgument);
  EXPECT_EQ(state->prepare(200, 300).error().code,
            Code::kOutOfBudget);  // more than a step was to be
  EXPECT_TRUE(state->prepare(200, 100));
  EXPECT_TRUE(state->truncate(0));
  EXPECT_TRUE(state->whole());
  EXPECT_TRUE(state->prepare(0, 100));
}

}  // namespace
}  // namespace venturi
