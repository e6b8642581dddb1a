#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "grammar/test_support.h"
#include "tokenizers/utf8.h"

namespace venturi::grammar {
namespace {

std::shared_ptr<const Automaton> compiled(std::string_view text) {
  auto grammar = parse_gbnf(text);
  EXPECT_TRUE(grammar.ok()) << (grammar.ok() ? "" : grammar.error().message);
  if (!grammar) return nullptr;
  auto automaton = Automaton::compile(*grammar);
  EXPECT_TRUE(automaton.ok()) << (automaton.ok() ? "" : automaton.error().message);
  return automaton ? *automaton : nullptr;
}

std::string refusal(std::string_view text) {
  auto grammar = parse_gbnf(text);
  if (!grammar) return grammar.error().message;
  auto automaton = Automaton::compile(*grammar);
  return automaton ? "" : automaton.error().message;
}

struct Case {
  const char* grammar;
  std::vector<const char*> in, out;
};

TEST(Gbnf, AcceptsItsTextsAndNoOthers) {
  const Case cases[] = {
      {"root ::= \"yes\" | \"no\"", {"yes", "no"}, {"", "y", "yesno", "yes "}},
      {"root ::= [a-c]+ [^0-9]?", {"a", "abc", "abcd", "cé"}, {"", "d", "a1", "ab12"}},
      {"root ::= \"a\"{2,3} (\"b\" | [x-z]{2})*", {"aa", "aaa", "aab", "aaxyb", "aaabbzz"}, {"a", "aaaa", "aax", "aaxb"}},
      {"root ::= \"é\" . \"\\u20AC\" [\\x41-\\x43\\]]", {"éx€A", "é€€]", "é\xF0\x9F\x98\x80€B"}, {"ex€A", "é€]", "éxy€A"}},
      {"# arithmetic\nroot ::= term (op term)*\nop ::= [-+*/]\nterm ::= [0-9]+ |\n  \"(\" root \")\" # nested",
       {"1", "1+2", "(1+(2*3))-4"}, {"", "1+", "(1", "1)"}},
      {"root ::= item\n   | item \",\" root\nitem ::= [a-z]", {"a", "a,b,c"}, {"a,", ",", "ab"}},
      {"root ::= (\"a\"?)* \"b\"", {"b", "aab"}, {"a", ""}},
      {"root ::= \"x\"{0} \"y\"{2,}", {"yy", "yyyyy"}, {"y", "xyy"}},
      {"root ::= [a\\-\\]^]+", {"a-]^"}, {"b"}},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.grammar);
    const auto automaton = compiled(c.grammar);
    ASSERT_TRUE(automaton);
    Matcher m(automaton);
    for (const char* text : c.in) EXPECT_TRUE(matches(m, text)) << text;
    for (const char* text : c.out) EXPECT_FALSE(matches(m, text)) << text;
  }
}

TEST(Gbnf, ClassesAreUtf8ForEveryCodePoint) {
  std::mt19937 random(7);
  const uint32_t edges[] = {0, 0x7F, 0x80, 0x7FF, 0x800, 0xD7FF, 0xD800, 0xDFFF, 0xE000, 0xFFFF, 0x10000, kLastCodePoint};
  for (int round = 0; round < 12; ++round) {
    Ranges ranges;
    for (int i = 0; i < 3; ++i) {
      uint32_t a = round % 2 ? random() % (kLastCodePoint + 1) : edges[random() % 12] + random() % 3;
      uint32_t b = round % 3 ? a + random() % 5000 : edges[random() % 12];
      a = std::min(a, kLastCodePoint), b = std::min(b, kLastCodePoint);
      ranges.push_back({std::min(a, b), std::max(a, b)});
    }
    Grammar g;
    g.define("root", g.choice({g.bytes("!!"), g.any_of(ranges)}));
    auto automaton = Automaton::compile(g);
    ASSERT_TRUE(automaton.ok());
    Matcher m(*automaton);
    for (uint32_t c = 0; c <= kLastCodePoint; ++c) {
      bool in = false;
      for (const Range& r : ranges) in |= c >= r.first && c <= r.last;
      if (c >= 0xD800 && c <= 0xDFFF) {
        // As three bytes, which is not UTF-8.
        const char bytes[] = {static_cast<char>(0xED), static_cast<char>(0x80 | (c >> 6 & 63)), static_cast<char>(0x80 | (c & 63))};
        ASSERT_FALSE(matches(m, {bytes, 3})) << c;
        continue;
      }
      std::string text;
      append_utf8(c, text);
      ASSERT_EQ(matches(m, text), in) << c;
    }
  }
}

TEST(Gbnf, RefusesWhatItCannotRunAndSaysWhy) {
  using testing::HasSubstr;
  EXPECT_THAT(refusal(""), HasSubstr("no rule named root"));
  EXPECT_THAT(refusal("root ::= a"), HasSubstr("rule a"));
  EXPECT_THAT(refusal("root ::= \"a\nb\""), HasSubstr("line 1"));
  EXPECT_THAT(refusal("root ::= (\"a\""), HasSubstr("expected )"));
  EXPECT_THAT(refusal("root ::= \"a\"\nroot ::= \"b\""), HasSubstr("twice"));
  EXPECT_THAT(refusal("root ::= \"a\"{3,2}"), HasSubstr("wrong way round"));
  EXPECT_THAT(refusal("root ::= [z-a]"), HasSubstr("wrong way round"));
  EXPECT_THAT(refusal("root ::= \"\\q\""), HasSubstr("escape"));
  EXPECT_THAT(refusal("root ::= \"\\uD800\""), HasSubstr("code point"));
  EXPECT_THAT(refusal("root ::= \"\xff\""), HasSubstr("UTF-8"));
  EXPECT_THAT(refusal("root ::= \"a\" ) "), HasSubstr("not expected"));
  EXPECT_THAT(refusal("root ::= root \"a\" | \"b\""), HasSubstr("left recursion"));
  EXPECT_THAT(refusal("root ::= x \"a\"\nx ::= \"b\"? y\ny ::= root | \"c\""), HasSubstr("left recursion"));
  EXPECT_THAT(refusal("root ::= \"a\" root"), HasSubstr("never end"));
  EXPECT_THAT(refusal("root ::= [] \"a\""), HasSubstr("never end"));
  EXPECT_THAT(refusal("root ::= [a-b]{90000} [a-c]{90000} [a-d]{90000}"), HasSubstr("states"));
  EXPECT_THAT(refusal("root ::= \"a\"{100001}"), HasSubstr("repetitions"));
  EXPECT_THAT(refusal(std::string("root ::= ") + std::string(300, '(') + "\"a\"" + std::string(300, ')')), HasSubstr("nest"));
  std::string chain = "root ::= r0\n";
  for (int i = 0; i < 20000; ++i) chain += fmt::format("r{} ::= r{} \"x\"\n", i, i + 1);
  EXPECT_EQ(refusal(chain + "r20000 ::= \"y\""), "");
}

TEST(Matcher, DepthIsBoundedAndListsTakeNone) {
  const auto nested = compiled("root ::= \"(\" root? \")\"");
  Matcher m(nested, {.max_depth = 10});
  EXPECT_TRUE(matches(m, "(((((((((())))))))))"));
  EXPECT_FALSE(matches(m, std::string(50, '(') + std::string(50, ')')));
  const auto list = compiled("root ::= [a-z] (\",\" root)?");
  Matcher right(list, {.max_depth = 2});
  std::string text = "a";
  for (int i = 0; i < 1000; ++i) text += ",b";
  EXPECT_TRUE(matches(right, text));
}

TEST(Matcher, ForgettingChangesNothing) {
  const auto automaton = compiled("root ::= \"[\" (root (\",\" root)*)? \"]\" | [0-9]{1,40} | \"'\" [^']* \"'\"");
  std::mt19937 random(3);
  for (int round = 0; round < 30; ++round) {
    Matcher plain(automaton), forgetful(automaton, {.max_sets = 4});
    Matcher::Set a = plain.start(), b = forgetful.start();
    for (int i = 0; i < 200; ++i) {
      std::string bytes;
      for (int c = 0; c < 256; ++c) {
        const bool one = plain.next(a, static_cast<uint8_t>(c)) != Matcher::kDead;
        if (one) bytes.push_back(static_cast<char>(c));
      }
      if (bytes.empty()) break;
      const char c = bytes[random() % bytes.size()];
      if (forgetful.full()) b = forgetful.collect(b);
      a = plain.next(a, static_cast<uint8_t>(c));
      b = forgetful.next(b, static_cast<uint8_t>(c));
      ASSERT_NE(b, Matcher::kDead);
      ASSERT_EQ(plain.accepts(a), forgetful.accepts(b));
      if (forgetful.full()) b = forgetful.collect(b);
      const auto other = static_cast<uint8_t>(random());
      ASSERT_EQ(plain.next(a, other) == Matcher::kDead, forgetful.next(b, other) == Matcher::kDead);
    }
  }
}

}  // namespace
}  // namespace venturi::grammar
