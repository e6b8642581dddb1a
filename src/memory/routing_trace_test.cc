#include "memory/routing_trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace venturi {
namespace {

using testing::HasSubstr;

TEST(RoutingTrace, ReadsWhatTheFormatSays) {
  const auto trace = parse_routing_trace("venturi-routes 1 layers=2 experts=64 top_k=3\nABC Za9\n/+A BAz\n");
  ASSERT_TRUE(trace) << trace.error().message;
  EXPECT_EQ(trace->n_tokens(), 2);
  EXPECT_EQ(trace->choices, (std::vector<int32_t>{0, 1, 2, 25, 26, 61, 63, 62, 0, 1, 0, 51}));
  EXPECT_EQ(trace->at(1, 0)[0], 63);
}

TEST(RoutingTrace, TwoDigitsBeyond64Experts) {
  const auto trace = parse_routing_trace("venturi-routes 1 layers=1 experts=65 top_k=2\nBAAA\n");
  ASSERT_TRUE(trace) << trace.error().message;
  EXPECT_EQ(trace->choices, (std::vector<int32_t>{64, 0}));
}

TEST(RoutingTrace, ComesBackAsItWas) {
  for (const int64_t experts : {5, 64, 65, 4096}) {
    RoutingTrace trace{.n_layers = 3, .n_experts = experts, .top_k = 2, .choices = {}};
    for (int32_t i = 0; i < 3 * 7; ++i) {
      trace.choices.push_back(static_cast<int32_t>(i * 2654435761u % static_cast<uint32_t>(experts)));
      trace.choices.push_back(static_cast<int32_t>((trace.choices.back() + 1) % experts));
    }
    const auto again = parse_routing_trace(format_routing_trace(trace));
    ASSERT_TRUE(again) << again.error().message;
    EXPECT_EQ(again->choices, trace.choices);
    EXPECT_EQ(again->n_experts, experts);
  }
}

TEST(RoutingTrace, SaysWhatIsWrongWhere) {
  const std::string head = "venturi-routes 1 layers=2 experts=4 top_k=2\n";
  const std::pair<std::string, const char*> cases[] = {
      {"", "line 1"},
      {"venturi-routes 2 layers=2 experts=4 top_k=2\nAB AB\n", "line 1"},
      {"venturi-routes 1 layers=2 experts=4 top_k=2 \nAB AB\n", "line 1"},
      {"venturi-routes 1 layers=2 experts=4 top_k=5\n", "top_k=5"},
      {"venturi-routes 1 layers=0 experts=4 top_k=2\n", "layers=0"},
      {"venturi-routes 1 layers=99999999999999999999 experts=4 top_k=2\n", "line 1"},
      {head, "no tokens"},
      {head + "AB AB\nAB\n", "line 3 has 2 characters, expected 5"},
      {head + "ABxAB\n", "line 2 has no space after layer 0"},
      {head + "AB A-\n", "line 2, layer 1: '-' is no digit"},
      {head + "AB AE\n", "line 2, layer 1: expert 4 of 4"},
      {head + "AB BB\n", "line 2, layer 1: expert 1 is chosen twice"},
  };
  for (const auto& [text, expected] : cases) {
    const auto trace = parse_routing_trace(text);
    ASSERT_FALSE(trace) << text;
    EXPECT_EQ(trace.error().code, Code::kCorrupt);
    EXPECT_THAT(trace.error().message, HasSubstr(expected)) << text;
  }
}

}  // namespace
}  // namespace venturi
