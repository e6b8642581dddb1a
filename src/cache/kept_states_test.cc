// States kept whole: who begins with all of the tokens gets the longest, once; the oldest goes
// first.
#include "cache/kept_states.h"

#include <gtest/gtest.h>

namespace venturi {
namespace {

const std::vector<SlotSpec> kSlots = {SlotSpec::recurrent(10), SlotSpec::paged(1, 8, 16, 150)};

struct World {
  std::shared_ptr<Ledger> ledger = Ledger::create();
  std::shared_ptr<StatePool> pool =
      StatePool::create(*ledger, kSlots,
                        plan_state(kSlots, {.tokens = 640, .sequences = 3, .rows = 64}))
          .value();
  KeptStates kept;

  std::unique_ptr<SequenceState> after(int64_t tokens) {
    auto state = pool->new_sequence().value();
    for (int64_t position = 0; position < tokens; position += 64) {
      const int64_t rows = std::min<int64_t>(64, tokens - position);
      EXPECT_TRUE(state->prepare(position, rows));
      state->set_length(position + rows);
    }
    state->recurrent(0)[3] = static_cast<float>(tokens);
    return state;
  }
  bool full() { return !pool->new_sequence(); }
};

std::vector<int32_t> text(int64_t n, int32_t last = 0) {
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < n; ++i) tokens.push_back(static_cast<int32_t>(i % 90));
  if (last) tokens.back() = last;
  return tokens;
}

TEST(KeptStates, TheLongestThatIsABeginningIsTakenOnce) {
  World w;
  w.kept.put(w.after(100), text(100), 0);
  w.kept.put(w.after(200), text(250), 0);  // of which it has computed so many
  w.kept.put(w.after(210), text(210, 999), 0);
  EXPECT_TRUE(w.full());
  EXPECT_EQ(w.kept.take(text(99), 99, 0), nullptr);
  EXPECT_EQ(w.kept.take(text(300), 99, 0), nullptr);
  EXPECT_EQ(w.kept.take(text(300), 300, 7), nullptr);  // another adapter's
  auto state = w.kept.take(text(300), 299, 0);
  ASSERT_TRUE(state);
  EXPECT_EQ(state->length(), 200);
  EXPECT_EQ(state->recurrent(0)[3], 200);
  auto shorter = w.kept.take(text(300), 299, 0);
  ASSERT_TRUE(shorter);
  EXPECT_EQ(shorter->length(), 100);
  EXPECT_EQ(w.kept.take(text(300), 299, 0), nullptr);
  EXPECT_EQ(w.kept.size(), 1);
}

TEST(KeptStates, TheOldestGoesFirstAndNothingIsKeptTwice) {
  World w;
  w.kept.put(w.after(100), text(100), 0);
  w.kept.put(w.after(50), text(50), 0);
  w.kept.put(w.after(100), text(100), 0);  // in the place of the first
  EXPECT_EQ(w.kept.size(), 2);
  w.kept.put(w.after(0), {}, 0);
  EXPECT_EQ(w.kept.size(), 2);
  EXPECT_FALSE(w.full());
  EXPECT_TRUE(w.kept.drop_oldest());
  EXPECT_EQ(w.kept.take(text(60), 60, 0), nullptr);
  EXPECT_TRUE(w.kept.drop_oldest());
  EXPECT_FALSE(w.kept.drop_oldest());
}

}  // namespace
}  // namespace venturi
