#include "cache/state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

namespace venturi {
namespace {

const std::vector<SlotSpec> kSlots = {SlotSpec::paged(2, 24, 20), SlotSpec::recurrent(100),
                                      SlotSpec::paged(1, 8, 16)};

std::shared_ptr<StatePool> make_pool(std::vector<SlotSpec> slots, int64_t tokens, int sequences) {
  auto ledger = Ledger::create();
  auto pool = StatePool::create(*ledger, std::move(slots), tokens, sequences);
  EXPECT_TRUE(pool);
  return std::move(pool).value();
}

TEST(State, BytesAreForetold) {
  // 130 tokens are 3 pages of 64; values are padded to 16 elements: 20 -> 32.
  const uint64_t page0 = 2 * 2 * 64 * (24 + 32), page2 = 2 * 64 * (8 + 16);
  // Each slot is a mapping of its own, in whole pages of the machine.
  const auto whole = [](uint64_t bytes) { return (bytes + 4095) / 4096 * 4096; };
  EXPECT_EQ(state_bytes(kSlots, 130, 2), whole(6 * page0) + whole(6 * page2) + whole(2 * 400));
  auto ledger = Ledger::create();
  const auto pool = StatePool::create(*ledger, kSlots, 130, 2);
  ASSERT_TRUE(pool);
  EXPECT_EQ(ledger->held(), state_bytes(kSlots, 130, 2));
  auto small = Ledger::create(10000);
  EXPECT_EQ(StatePool::create(*small, kSlots, 130, 2).error().code, Code::kOutOfBudget);
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

}  // namespace
}  // namespace venturi
