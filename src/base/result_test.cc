#include "base/result.h"

#include <gtest/gtest.h>

#include <memory>

namespace venturi {
namespace {

struct Base {
  virtual ~Base() = default;
};
struct Derived : Base {};

Result<int> half(int x) {
  if (x % 2) return error(Code::kInvalidArgument, "{} is odd", x);
  return x / 2;
}

Result<std::string> quarter_text(int x, int* reached) {
  const int h = TRY(half(x));
  ++*reached;
  const int q = TRY(half(h));
  ++*reached;
  return std::to_string(q);
}

Status twice(int x) {
  TRY(half(x));
  TRY(half(x / 2));
  return {};
}

Result<std::unique_ptr<int>> boxed(int x) { return std::make_unique<int>(TRY(half(x))); }
Result<int> unboxed(int x) { return *TRY(boxed(x)); }

TEST(Result, HoldsAValueOrAnError) {
  EXPECT_TRUE(half(4).ok());
  EXPECT_EQ(*half(4), 2);
  const auto bad = half(5);
  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.error().code, Code::kInvalidArgument);
  EXPECT_EQ(bad.error().message, "5 is odd");
}

TEST(Result, TryReturnsTheFirstErrorAndStopsThere) {
  int reached = 0;
  EXPECT_EQ(*quarter_text(12, &reached), "3");
  EXPECT_EQ(reached, 2);
  reached = 0;
  EXPECT_EQ(quarter_text(6, &reached).error().message, "3 is odd");
  EXPECT_EQ(reached, 1);
  reached = 0;
  EXPECT_EQ(quarter_text(7, &reached).error().message, "7 is odd");
  EXPECT_EQ(reached, 0);
}

TEST(Result, TryWorksOnStatusAndMoveOnlyValues) {
  EXPECT_TRUE(twice(4));
  EXPECT_EQ(twice(6).error().message, "3 is odd");
  EXPECT_EQ(*unboxed(10), 5);
  EXPECT_FALSE(unboxed(9));
}

TEST(Result, ConvertsAsItsValueDoes) {
  Result<std::unique_ptr<Base>> r = std::make_unique<Derived>();
  EXPECT_TRUE(r);
  Result<std::string> text = "literal";
  EXPECT_EQ(*text, "literal");
  EXPECT_EQ(text->size(), 7u);
}

TEST(Result, WithinPutsThePlaceInFront) {
  EXPECT_EQ(error(Code::kCorrupt, "bad magic").within("a.gguf").message, "a.gguf: bad magic");
}

}  // namespace
}  // namespace venturi
