#include "ops/route_replay.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ops/moe.h"

namespace venturi {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

RoutingTrace small_trace() {  // 4 tokens, 2 layers of 6 experts, 1 used: layer 1 chooses one more
  return {.n_layers = 2, .n_experts = 6, .top_k = 1, .choices = {0, 1, 1, 2, 2, 3, 3, 4}};
}

std::vector<int32_t> choose(RouteReplay& replay, const Weight& gate, int64_t rows) {
  std::vector<int32_t> chosen(static_cast<size_t>(rows), 5);
  replay.choose(gate, chosen.data(), rows, 1);
  return chosen;
}

class Replay : public testing::Test {
 protected:
  void SetUp() override {
    for (Weight& gate : gates_) gate.n_planes = 6;
  }
  std::vector<const Weight*> gates() const { return {&gates_[0], &gates_[1]}; }
  Weight gates_[2];
};

TEST_F(Replay, LayersFollowTheTraceEachAtItsOwnPlace) {
  auto replay = RouteReplay::create(small_trace(), gates(), 1);
  ASSERT_TRUE(replay);
  EXPECT_THAT(choose(*replay, gates_[0], 3), ElementsAre(0, 1, 2));
  EXPECT_THAT(choose(*replay, gates_[1], 3), ElementsAre(1, 2, 3));
  EXPECT_THAT(choose(*replay, gates_[0], 2), ElementsAre(3, 0));
  EXPECT_THAT(choose(*replay, gates_[1], 2), ElementsAre(4, 1));
}

TEST_F(Replay, SequencesBeginApart) {
  auto replay = RouteReplay::create(small_trace(), gates(), 1);
  ASSERT_TRUE(replay);
  replay->set_streams(2);
  EXPECT_THAT(choose(*replay, gates_[0], 2), ElementsAre(0, 2));
  EXPECT_THAT(choose(*replay, gates_[0], 2), ElementsAre(1, 3));
  EXPECT_THAT(choose(*replay, gates_[0], 2), ElementsAre(2, 0));
}

TEST_F(Replay, ATraceOfAnotherModelIsRefused) {
  auto wide = small_trace();
  wide.n_experts = 7;
  for (const auto& replay : {RouteReplay::create(wide, gates(), 1), RouteReplay::create(small_trace(), gates(), 2),
                             RouteReplay::create(small_trace(), {&gates_[0]}, 1)}) {
    ASSERT_FALSE(replay);
    EXPECT_EQ(replay.error().code, Code::kInvalidArgument);
    EXPECT_THAT(replay.error().message, HasSubstr("the trace is of 2 layers"));
  }
  EXPECT_FALSE(RouteReplay::create(small_trace(), {}, 1));
}

TEST_F(Replay, TheRecorderWritesWhatWasReplayed) {
  auto replay = RouteReplay::create(small_trace(), gates(), 1);
  ASSERT_TRUE(replay);
  RouteRecorder recorder(gates());
  for (const int64_t rows : {1, 3})
    for (const Weight& gate : gates_) {
      const auto chosen = choose(*replay, gate, rows);
      recorder.routed(gate, chosen.data(), rows, 1);
    }
  EXPECT_EQ(recorder.trace().choices, small_trace().choices);
  EXPECT_EQ(format_routing_trace(recorder.trace()), format_routing_trace(small_trace()));
}

}  // namespace
}  // namespace venturi
