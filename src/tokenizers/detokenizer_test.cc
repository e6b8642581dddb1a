#include "tokenizers/detokenizer.h"

#include <gtest/gtest.h>

#include "tokenizers/test_support.h"

namespace venturi {
namespace {

std::unique_ptr<Tokenizer> bytes_only() {
  return Tokenizer::from_metadata(testing::gpt2_metadata({})).value();
}

TEST(Detokenizer, HoldsBackWhatIsNotWhole) {
  const auto tokenizer = bytes_only();
  Detokenizer out(*tokenizer);
  EXPECT_EQ(out.push('a'), "a");
  EXPECT_EQ(out.push(0xE2), "");
  EXPECT_EQ(out.push(0x82), "");
  EXPECT_EQ(out.push(0xAC), "\u20AC");
  EXPECT_EQ(out.push(0xF0), "");
  EXPECT_EQ(out.finish(), "\uFFFD");
  EXPECT_EQ(out.finish(), "");
}

TEST(Detokenizer, ReplacesWhatCanNotBecomeWhole) {
  const auto tokenizer = bytes_only();
  Detokenizer out(*tokenizer);
  EXPECT_EQ(out.push(0x80), "\uFFFD");
  EXPECT_EQ(out.push(0xE2), "");
  EXPECT_EQ(out.push('x'), "\uFFFDx");
  EXPECT_EQ(out.push(0xED), "");
  EXPECT_EQ(out.push(0xA0), "\uFFFD\uFFFD");  // a surrogate begins so; no character does
}

TEST(Detokenizer, OnlyUtf8ComesOutAndValidTextComesOutWhole) {
  const auto tokenizer = bytes_only();
  for (uint64_t seed = 0; seed < 200; ++seed) {
    const std::string text = testing::random_text(seed, 40);
    Detokenizer whole(*tokenizer), noise(*tokenizer);
    std::string all;
    for (size_t i = 0; i < text.size(); ++i) {
      all += whole.push(static_cast<uint8_t>(text[i]));
      const std::string some = noise.push(static_cast<TokenId>(random_bits(seed, 1, i) % 256));
      EXPECT_EQ(utf8_run(some, 0, true), some.size());
    }
    EXPECT_EQ(all + whole.finish(), text);
  }
}

TEST(Detokenizer, ControlTokensAreSilentUnlessAskedFor) {
  const auto tokenizer = bytes_only();
  Detokenizer quiet(*tokenizer), loud(*tokenizer, true);
  EXPECT_EQ(quiet.push(*tokenizer->eos()), "");
  EXPECT_EQ(loud.push(*tokenizer->eos()), "</s>");
  EXPECT_EQ(quiet.push(-5), "");
  EXPECT_EQ(quiet.push(1 << 30), "");
}

}  // namespace
}  // namespace venturi
