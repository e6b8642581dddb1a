#include "tokenizers/normal_form.h"

#include <gtest/gtest.h>

namespace venturi {
namespace {

std::string nfc(std::string_view text) { return to_normal_form(text, NormalForm::kC); }

// Whole tables are compared with Python's in tests/normal_form_test.py.
TEST(NormalForm, KnownCases) {
  EXPECT_EQ(nfc("e\u0301"), "\u00e9");
  EXPECT_EQ(to_normal_form("\u00e9", NormalForm::kD), "e\u0301");
  EXPECT_EQ(to_normal_form("\ufb01", NormalForm::kKC), "fi");
  EXPECT_EQ(nfc("\ufb01"), "\ufb01");
  EXPECT_EQ(nfc("\u212b"), "\u00c5");               // a singleton
  EXPECT_EQ(nfc("\u0958"), "\u0915\u093c");         // excluded from composition
  EXPECT_EQ(nfc("\u1112\u1161\u11ab"), "\ud55c");   // Hangul
  EXPECT_EQ(nfc("a\u0301\u0323"), "\u1ea1\u0301");  // marks in canonical order
  EXPECT_EQ(nfc(""), "");
  EXPECT_EQ(to_normal_form("e\u0301", NormalForm::kNone), "e\u0301");
}

TEST(NormalForm, BytesThatAreNoTextStay) {
  EXPECT_EQ(nfc("e\xff\u0301\xc3"), "e\xff\u0301\xc3");
  EXPECT_EQ(nfc(std::string("\0\xe2\x82", 3)), std::string("\0\xe2\x82", 3));
}

// Marks of two classes in turn, against their order: a sort by swaps would take minutes.
TEST(NormalForm, LongRunsOfMarks) {
  std::string marks = "a";
  for (int i = 0; i < 200000; ++i) marks += "\u0301\u0323";
  const std::string normal = nfc(marks);
  EXPECT_EQ(normal.substr(0, 3), "\u1ea1");
  EXPECT_EQ(normal.substr(normal.size() - 2), "\u0301");
}

TEST(NormalForm, Names) {
  EXPECT_EQ(*parse_normal_form("NFKD"), NormalForm::kKD);
  EXPECT_FALSE(parse_normal_form("NFE").ok());
}

}  // namespace
}  // namespace venturi
