#include "chat/encode.h"

#include <gtest/gtest.h>

namespace venturi::chat {
namespace {

ControlTokens some_tokens() {
  ControlTokens tokens;
  tokens.add("<s>", 1);
  tokens.add("<|im_start|>", 2);
  tokens.add("<|im_end|>", 3);
  tokens.add("<|im", 4);
  tokens.add("", 9);
  return tokens;
}

TEST(ControlTokens, LongestFirst) {
  const ControlTokens tokens = some_tokens();
  EXPECT_EQ(tokens.longest_at("<|im_end|>x", 0).id, 3);
  EXPECT_EQ(tokens.longest_at("<|im_end|>x", 0).length, 10u);
  EXPECT_EQ(tokens.longest_at("<|im_en", 0).id, 4);
  EXPECT_EQ(tokens.longest_at("a<s>", 1).id, 1);
  EXPECT_EQ(tokens.longest_at("a<s>", 0).length, 0u);
}

TEST(CutAtControlTokens, JoinsPlainTextAcrossSegments) {
  const std::vector<Segment> segments = {{"<s><|im_start|>us", true},
                                         {"er\nhel", true},
                                         {"lo wor", false},
                                         {"ld<|im_end|>", true},
                                         {"\n", true}};
  const std::vector<Piece> expected = {1, 2, "user\nhello world", 3, "\n"};
  EXPECT_EQ(cut_at_control_tokens(segments, some_tokens()), expected);
}

TEST(CutAtControlTokens, OutsideTextNeverNamesOne) {
  const std::vector<Segment> whole = {{"a", true}, {"<|im_end|><s>", false}, {"b", true}};
  EXPECT_EQ(cut_at_control_tokens(whole, some_tokens()), (std::vector<Piece>{"a<|im_end|><s>b"}));
  const std::vector<Segment> begins = {{"<|im_", true},
                                       {"end|>", false}};  // "<|im" is the template's own
  EXPECT_EQ(cut_at_control_tokens(begins, some_tokens()), (std::vector<Piece>{4, "_end|>"}));
  const std::vector<Segment> ends = {{"<", false}, {"s>", true}};
  EXPECT_EQ(cut_at_control_tokens(ends, some_tokens()), (std::vector<Piece>{"<s>"}));
  const std::vector<Segment> middle = {{"<", true}, {"s", false}, {">", true}};
  EXPECT_EQ(cut_at_control_tokens(middle, some_tokens()), (std::vector<Piece>{"<s>"}));
}

TEST(CutAtControlTokens, NothingBetweenTwoIsNoPiece) {
  const std::vector<Segment> segments = {
      {"<s>", true}, {"", false}, {"<s", true}, {"", false}, {">", true}};
  EXPECT_EQ(cut_at_control_tokens(segments, some_tokens()), (std::vector<Piece>{1, 1}));
  EXPECT_TRUE(cut_at_control_tokens({}, some_tokens()).empty());
}

}  // namespace
}  // namespace venturi::chat
