#include "tokenizers/pre_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tokenizers/test_support.h"

namespace venturi {
namespace {

using ::testing::ElementsAre;
using venturi::testing::random_text;
using venturi::testing::repeat;
using venturi::testing::without_disputed;

std::vector<std::string> words(const PreTokenizer& pre, std::string_view text) {
  std::vector<size_t> ends;
  pre.split(text, ends);
  std::vector<std::string> out;
  size_t begin = 0;
  for (const size_t end : ends) {
    out.emplace_back(text.substr(begin, end - begin));
    begin = end;
  }
  EXPECT_EQ(begin, text.size());
  return out;
}

std::vector<std::string> words(std::string_view name, std::string_view text) {
  const PreTokenizerInfo* info = find_pre_tokenizer(name);
  EXPECT_NE(info, nullptr) << name;
  auto pre = PreTokenizer::compile(info->patterns);
  EXPECT_TRUE(pre.ok());
  return words(*pre, text);
}

PreTokenizer compile(std::string_view pattern, bool fast) {
  auto pre = PreTokenizer::compile(std::span(&pattern, 1), fast);
  EXPECT_TRUE(pre.ok()) << pre.error().message;
  return std::move(pre).value();
}

TEST(PreTokenizer, HandWrittenCodeDoesWhatItsPatternSays) {
  for (const FastSplit& fast : all_fast_splits()) {
    const PreTokenizer ours = compile(fast.pattern, true), pcre = compile(fast.pattern, false);
    for (uint64_t seed = 0; seed < 4000; ++seed) {
      const std::string text = without_disputed(random_text(seed, 1 + static_cast<int>(seed % 60)));
      ASSERT_EQ(words(ours, text), words(pcre, text)) << fast.pattern << " seed " << seed;
    }
  }
}

TEST(PreTokenizer, EveryEntryCompilesAndKeepsEveryByte) {
  for (const PreTokenizerInfo& info : all_pre_tokenizers()) {
    auto pre = PreTokenizer::compile(info.patterns);
    ASSERT_TRUE(pre.ok()) << info.names[0] << ": " << pre.error().message;
    for (uint64_t seed = 0; seed < 50; ++seed) {
      std::string text = random_text(seed, 200);
      for (size_t i = 0; i < text.size(); i += 97) text[i] = static_cast<char>(0x80 + i % 128);
      std::string joined;
      for (const auto& word : words(*pre, text)) {
        EXPECT_FALSE(word.empty());
        joined += word;
      }
      EXPECT_EQ(joined, text);
    }
  }
}

TEST(PreTokenizer, EveryNameIsThereOnce) {
  for (const PreTokenizerInfo& info : all_pre_tokenizers())
    for (const auto name : info.names) EXPECT_EQ(find_pre_tokenizer(name), &info) << name;
  EXPECT_EQ(find_pre_tokenizer("no-such"), nullptr);
}

TEST(PreTokenizer, Gpt2) {
  EXPECT_THAT(words("gpt-2", "I'll  pay $12.50\n\n now's"),
              ElementsAre("I", "'ll", " ", " pay", " $", "12", ".", "50", "\n\n", " now", "'s"));
}

TEST(PreTokenizer, Llama3CutsDigitsInThreesAndJoinsOneSignToAWord) {
  EXPECT_THAT(words("llama-bpe", "(Hello) 12345 I'LL\r\n \n x"),
              ElementsAre("(Hello", ")", " ", "123", "45", " I", "'LL", "\r\n \n", " x"));
}

TEST(PreTokenizer, CaseFoldingIsUnicodes) {
  EXPECT_THAT(words("llama-bpe", "it'\u017F"), ElementsAre("it", "'\u017F"));
  // GPT-2's pattern does not fold.
  EXPECT_THAT(words("gpt-2", "it'S"), ElementsAre("it", "'", "S"));
}

TEST(PreTokenizer, WhiteSpaceIsUnicodes) {
  // U+0085 and U+3000 are white space, U+180E is not any more.
  EXPECT_THAT(words("gpt-2", "a\u0085\u3000b"), ElementsAre("a", "\u0085", "\u3000", "b"));
  const PreTokenizer pcre = compile(kGpt2Pattern, false);
  EXPECT_THAT(words(pcre, "a \u180E"), ElementsAre("a", " \u180E"));
}

TEST(PreTokenizer, ChainsCutWhatEarlierPatternsLeft) {
  EXPECT_THAT(words("starcoder", "x  12 y"), ElementsAre("x", "  ", "1", "2", " y"));
  EXPECT_THAT(words("falcon", "12345, a"), ElementsAre("123", "45", ",", " a"));
  EXPECT_THAT(words("deepseek-llm", "Hi 42\u4E2D\u6587 \n"),
              ElementsAre("Hi", " ", "4", "2", "\u4E2D\u6587", " ", "\n"));
  EXPECT_THAT(words("default", "a+=1234"), ElementsAre("a", "+=", "123", "4"));
  EXPECT_THAT(words("superbpe", "ab 1234567 c"), ElementsAre("ab ", "1", "234", "567", " c"));
  EXPECT_THAT(words("tiny_aya", "1234567"), ElementsAre("1", "234", "567"));
}

TEST(PreTokenizer, O200kCutsAtCapitals) {
  EXPECT_THAT(words("gpt-4o", "getHTMLText's 1234"),
              ElementsAre("get", "HTMLText's", " ", "123", "4"));
  EXPECT_THAT(words("tekken", "\u00C9tatUni 12"), ElementsAre("\u00C9tat", "Uni", " ", "1", "2"));
}

TEST(PreTokenizer, BytesThatAreNotUtf8StandAlone) {
  EXPECT_THAT(words("gpt-2", "ab\xFF\xC3 cd"), ElementsAre("ab", "\xFF\xC3", " cd"));
  EXPECT_THAT(words("qwen2", "\xE4\xB8"), ElementsAre("\xE4\xB8"));
}

TEST(PreTokenizer, NamesThePatternThatDoesNotCompile) {
  const std::string_view pattern = "a(b";
  const auto pre = PreTokenizer::compile(std::span(&pattern, 1));
  ASSERT_FALSE(pre.ok());
  EXPECT_THAT(pre.error().message, ::testing::HasSubstr("a(b"));
}

TEST(PreTokenizer, LongRunsTakeLinearTime) {
  for (const PreTokenizerInfo& info : all_pre_tokenizers()) {
    auto pre = PreTokenizer::compile(info.patterns);
    ASSERT_TRUE(pre.ok());
    for (const char* unit :
         {" ", "a", "A", "1", "\n", "'", "\u4E2D", "\u0301", "\U0001F600", " a", "\xFF", "aA"}) {
      for (const char* tail : {"", "1", "\u4E2D", "x"}) {
        const std::string text = repeat(unit, 1 << 18) + tail;
        std::vector<size_t> ends;
        const double start = testing::cpu_seconds();
        pre->split(text, ends);
        EXPECT_EQ(ends.back(), text.size());
        EXPECT_LT(testing::cpu_seconds() - start, 0.5 * testing::kPatience)
            << info.names[0] << " on '" << unit << "' + '" << tail << "'";
      }
    }
  }
}

}  // namespace
}  // namespace venturi
