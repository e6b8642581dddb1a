#include "tokenizers/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <thread>

#include "tokenizers/scheme.h"
#include "tokenizers/test_support.h"

namespace venturi {
namespace {

using namespace testing;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::unique_ptr<Tokenizer> make(const Metadata& metadata) {
  auto tokenizer = Tokenizer::from_metadata(metadata);
  if (!tokenizer.ok()) {
    ADD_FAILURE() << tokenizer.error().message;
    std::abort();
  }
  return std::move(tokenizer).value();
}

std::vector<std::string> spelled(const Tokenizer& tokenizer, std::string_view text,
                                 EncodeOptions options = {.add_special = false}) {
  std::vector<std::string> out;
  for (const TokenId id : tokenizer.encode(text, options))
    out.emplace_back(tokenizer.token_text(id));
  return out;
}

// Refused, with a message that has `what` in it.
void expect_refused(const Metadata& metadata, const std::string& what) {
  const auto result = Tokenizer::from_metadata(metadata);
  ASSERT_FALSE(result.ok()) << what;
  EXPECT_THAT(result.error().message, HasSubstr(what));
}

const std::vector<std::pair<std::string, std::string>> kMerges = {
    {"l", "l"}, {"e", "ll"}, {"h", "ell"}, {"hell", "o"}, {" ", "w"}, {" w", "o"}};

// A merge of "ell" + "o" comes after "h" + "ell" and never happens in "hello".
TEST(Gpt2, MergesInOrderOfRank) {
  const auto tokenizer = make(gpt2_metadata(kMerges));
  EXPECT_THAT(spelled(*tokenizer, "hello world"),
              ElementsAre("hello", gpt2_spelling(" wo"), "r", "l", "d"));
  EXPECT_THAT(spelled(*tokenizer, ""), IsEmpty());
}

TEST(Gpt2, EveryByteComesBack) {
  const auto tokenizer = make(gpt2_metadata(kMerges));
  std::string all;
  for (int i = 0; i < 1024; ++i) all += static_cast<char>(i * 7 + i / 256);
  EXPECT_EQ(tokenizer->decode(tokenizer->encode(all)), all);
  EXPECT_EQ(tokenizer->piece(0), std::string(1, '\0'));
  EXPECT_EQ(tokenizer->piece(255), "\xFF");
}

// So a text's length tells how many tokens it has at least.
TEST(Gpt2, NoTokenStandsForMoreBytesThanSaid) {
  const auto tokenizer = make(gpt2_metadata(kMerges));
  const size_t most = tokenizer->most_bytes_per_token();
  EXPECT_GE(most, 5u);
  std::string text;
  for (int i = 0; i < 1000; ++i) text += i % 3 ? "hello wo" : std::string(1, static_cast<char>(i));
  for (const TokenId id : tokenizer->encode(text)) EXPECT_LE(tokenizer->piece(id).size(), most);
  // Where bytes are dropped, nobody knows.
  Metadata metadata = gpt2_metadata({});
  auto tokens = *metadata.get_strings("tokenizer.ggml.tokens");
  std::vector<std::string> changed(tokens.begin(), tokens.end());
  changed['q'] = "unrelated";
  metadata.set_strings("tokenizer.ggml.tokens", changed);
  EXPECT_EQ(make(metadata)->most_bytes_per_token(), 0u);
}

TEST(Gpt2, AMergeThatIsNoTokenIsAStepOnly) {
  Metadata metadata = gpt2_metadata({{"x", "y"}, {"xy", "z"}});
  auto tokens = *metadata.get_strings("tokenizer.ggml.tokens");
  std::vector<std::string> changed(tokens.begin(), tokens.end());
  changed[256] = "unrelated";  // was "xy"
  metadata.set_strings("tokenizer.ggml.tokens", changed);
  const auto tokenizer = make(metadata);
  EXPECT_THAT(spelled(*tokenizer, "xyz"), ElementsAre("xyz"));
  EXPECT_THAT(spelled(*tokenizer, "xya"), ElementsAre("x", "y", "a"));
}

TEST(Gpt2, MissingBytesAreDroppedOrUnknown) {
  Metadata metadata = gpt2_metadata({});
  auto tokens = *metadata.get_strings("tokenizer.ggml.tokens");
  std::vector<std::string> changed(tokens.begin(), tokens.end());
  changed['q'] = "unrelated";
  metadata.set_strings("tokenizer.ggml.tokens", changed);
  EXPECT_THAT(spelled(*make(metadata), "aqb"), ElementsAre("a", "b"));
  // A token that ends the text is not written by a missing byte, even if it is called unknown.
  metadata.set_uint("tokenizer.ggml.unknown_token_id", 257);
  EXPECT_THAT(spelled(*make(metadata), "aqb"), ElementsAre("a", "b"));
  auto kinds = *metadata.get_ints("tokenizer.ggml.token_type");
  kinds[257] = 2;
  metadata.set_ints("tokenizer.ggml.token_type", {kinds.begin(), kinds.end()});
  EXPECT_THAT(spelled(*make(metadata), "aqb"), ElementsAre("a", "</s>", "b"));
}

TEST(Gpt2, WholeWordsComeBeforeMergesWhereThePreTokenizerSaysSo) {
  Metadata metadata = gpt2_metadata({{"a", "b"}});
  auto tokens = *metadata.get_strings("tokenizer.ggml.tokens");
  std::vector<std::string> more(tokens.begin(), tokens.end());
  more.push_back("bcd");
  auto kinds = *metadata.get_ints("tokenizer.ggml.token_type");
  kinds.push_back(1);
  metadata.set_strings("tokenizer.ggml.tokens", more);
  metadata.set_ints("tokenizer.ggml.token_type", {kinds.begin(), kinds.end()});
  EXPECT_THAT(spelled(*make(metadata), "bcd"), ElementsAre("b", "c", "d"));
  metadata.set_string("tokenizer.ggml.pre", "llama-bpe");
  EXPECT_THAT(spelled(*make(metadata), "bcd"), ElementsAre("bcd"));
  EXPECT_THAT(spelled(*make(metadata), "bcd", {}), ElementsAre("<s>", "bcd"));
  metadata.set_bool("tokenizer.ggml.add_bos_token", false);
  metadata.set_bool("tokenizer.ggml.add_eos_token", true);
  EXPECT_THAT(spelled(*make(metadata), "bcd", {}), ElementsAre("bcd", "</s>"));
}

TEST(Gpt2, PatternsMayBeGivenOutright) {
  Metadata metadata = gpt2_metadata({{"1", "2"}, {"b", "1"}});
  metadata.set_string("tokenizer.ggml.pre", "unheard-of");
  expect_refused(metadata, "unheard-of");
  metadata.set_strings("tokenizer.venturi.split_patterns", {R"(\p{N}+)"});
  EXPECT_THAT(spelled(*make(metadata), "ab12"), ElementsAre("a", "b", "12"));
  metadata.set_strings("tokenizer.venturi.split_patterns", {"(("});
  expect_refused(metadata, "((");
}

TEST(Gpt2, NoNameMeansDefault) {
  Metadata metadata = gpt2_metadata({{"1", "2"}, {"12", "3"}, {"123", "4"}});
  metadata.erase("tokenizer.ggml.pre");
  EXPECT_THAT(spelled(*make(metadata), "1234"), ElementsAre("123", "4"));
}

TEST(Specials, OnlyUserDefinedTokensAreReadInOrdinaryText) {
  const auto tokenizer = make(gpt2_metadata({{"<", "/"}}));
  EXPECT_THAT(spelled(*tokenizer, "</s><tool>"), ElementsAre("</", "s", ">", "<tool>"));
  EXPECT_THAT(spelled(*tokenizer, "a</s><tool>", {.add_special = false, .parse_special = true}),
              ElementsAre("a", "</s>", "<tool>"));
  const auto ids = tokenizer->encode("a</s><tool>", {.parse_special = true});
  EXPECT_EQ(tokenizer->decode(ids), "a<tool>");
  EXPECT_EQ(tokenizer->decode(ids, true), "a</s><tool>");
}

TEST(Specials, MergesNeverProduceAControlToken) {
  Metadata metadata = sentencepiece_metadata("llama", {"<", "/", "s", ">", "</", "s>", "</s", "t"});
  EXPECT_THAT(spelled(*make(metadata), "</s>"),
              ElementsAre("<0xE2>", "<0x96>", "<0x81>", "</", "s>"));
  EXPECT_THAT(spelled(*make(metadata), "t<0x41>"), ::testing::Not(::testing::Contains("<0x41>")));
}

TEST(Specials, TheLongestOfTheLeftmostWins) {
  Metadata metadata = gpt2_metadata({});
  auto tokens = *metadata.get_strings("tokenizer.ggml.tokens");
  std::vector<std::string> more(tokens.begin(), tokens.end());
  more.insert(more.end(), {"<tool><x>", "x>y"});
  auto kinds = *metadata.get_ints("tokenizer.ggml.token_type");
  kinds.insert(kinds.end(), {4, 4});
  metadata.set_strings("tokenizer.ggml.tokens", more);
  metadata.set_ints("tokenizer.ggml.token_type", {kinds.begin(), kinds.end()});
  EXPECT_THAT(spelled(*make(metadata), "<tool><x>y"), ElementsAre("<tool><x>", "y"));
}

TEST(Specials, EndsOfGenerationAreKnownByName) {
  Metadata metadata = gpt2_metadata({});
  auto tokens = *metadata.get_strings("tokenizer.ggml.tokens");
  std::vector<std::string> more(tokens.begin(), tokens.end());
  more.insert(more.end(), {"<|im_end|>", "<|eom_id|>", "<|im_start|>"});
  auto kinds = *metadata.get_ints("tokenizer.ggml.token_type");
  kinds.insert(kinds.end(), {4, 1, 3});
  metadata.set_strings("tokenizer.ggml.tokens", more);
  metadata.set_ints("tokenizer.ggml.token_type", {kinds.begin(), kinds.end()});
  const auto tokenizer = make(metadata);
  EXPECT_TRUE(tokenizer->is_end_of_generation(*tokenizer->eos()));
  EXPECT_TRUE(tokenizer->is_end_of_generation(*tokenizer->find("<|im_end|>")));
  EXPECT_TRUE(tokenizer->is_end_of_generation(*tokenizer->find("<|eom_id|>")));
  EXPECT_FALSE(tokenizer->is_end_of_generation(*tokenizer->find("<|im_start|>")));
  EXPECT_FALSE(tokenizer->is_end_of_generation(-1));
  EXPECT_EQ(tokenizer->eot(), tokenizer->find("<|im_end|>"));
  // Marked as user-defined in the file, but no user's text may end a turn.
  EXPECT_EQ(tokenizer->kind(*tokenizer->find("<|im_end|>")), TokenKind::kControl);
  EXPECT_EQ(tokenizer->encode("<|im_end|>").size(), 10u);
}

TEST(Llama, HighestScoreMergesFirst) {
  // Scores fall: "bc" before "ab".
  const auto tokenizer =
      make(sentencepiece_metadata("llama", {"\u2581", "a", "b", "c", "bc", "ab", "\u2581a"}));
  EXPECT_THAT(spelled(*tokenizer, "abc"), ElementsAre("\u2581a", "bc"));
  EXPECT_THAT(spelled(*tokenizer, "bab"), ElementsAre("\u2581", "b", "ab"));
}

TEST(Llama, UnknownCharactersAreBytesOrUnknown) {
  const auto bytes = make(sentencepiece_metadata("llama", {"\u2581", "a"}));
  EXPECT_THAT(spelled(*bytes, "a\u00E9\xFF"),
              ElementsAre("\u2581", "a", "<0xC3>", "<0xA9>", "<0xFF>"));
  EXPECT_EQ(bytes->decode(bytes->encode("a\u00E9\xFF")), "a\u00E9\xFF");
  const auto none = make(sentencepiece_metadata("llama", {"\u2581", "a"}, false));
  EXPECT_THAT(spelled(*none, "a\u00E9\u00E9a"), ElementsAre("\u2581", "a", "<unk>", "a"));
}

TEST(Llama, TheSpaceInFrontComesAndGoes) {
  Metadata metadata = sentencepiece_metadata("llama", {"\u2581", "a", "\u2581a"});
  const auto with = make(metadata);
  EXPECT_THAT(spelled(*with, " a"), ElementsAre("\u2581", "\u2581a"));
  EXPECT_EQ(with->decode(with->encode(" a")), " a");
  EXPECT_EQ(with->piece(*with->find("\u2581a")), " a");
  EXPECT_THAT(spelled(*with, "a<tool>a"), ElementsAre("\u2581a", "<tool>", "\u2581a"));
  EXPECT_TRUE(with->adds_bos());
  EXPECT_THAT(spelled(*with, "", {}), ElementsAre("<s>"));
  metadata.set_bool("tokenizer.ggml.add_space_prefix", false);
  const auto without = make(metadata);
  EXPECT_THAT(spelled(*without, "a a"), ElementsAre("a", "\u2581a"));
  EXPECT_EQ(without->decode(without->encode(" a")), " a");
}

// A piece with a space inside takes away the shortcut of cutting at spaces.
TEST(Llama, PiecesMayReachAcrossSpaces) {
  const auto tokenizer =
      make(sentencepiece_metadata("llama", {"a\u2581b", "a\u2581", "\u2581", "a", "b"}));
  EXPECT_THAT(spelled(*tokenizer, "a ba"), ElementsAre("\u2581", "a\u2581b", "a"));
}

TEST(T5, TakesTheBestSum) {
  // Scores -1 … -6: "ab" + "c" costs 3, "a" + "bc" costs 4 + 2.
  const auto tokenizer =
      make(sentencepiece_metadata("t5", {"ab", "c", "\u2581", "a", "bc", "b"}, false));
  EXPECT_THAT(spelled(*tokenizer, "abc"), ElementsAre("\u2581", "ab", "c"));
  EXPECT_THAT(spelled(*tokenizer, "ab\u00E9\u00E9c", {}),
              ElementsAre("\u2581", "ab", "<unk>", "c", "</s>"));
  EXPECT_EQ(tokenizer->decode(tokenizer->encode("abc cab")), "abc cab");
  const auto bytes = make(sentencepiece_metadata("t5", {"a", "\u2581"}));
  EXPECT_EQ(bytes->decode(bytes->encode("a\u00E9 \xFF")), "a\u00E9 \xFF");
}

TEST(Bert, FoldsCutsAndTakesTheLongestPieces) {
  const auto tokenizer = make(bert_metadata({"\u2581hello", "\u2581he", "llo", "\u2581,", "\u2581w",
                                             "or", "ld", "\u2581\u4E2D", "\u2581!", "\u2581cafe"}));
  EXPECT_THAT(spelled(*tokenizer, "H\u00C9LLO, w\u00F6rld\u4E2D!", {}),
              ElementsAre("[CLS]", "\u2581hello", "\u2581,", "\u2581w", "or", "ld", "\u2581\u4E2D",
                          "\u2581!", "[SEP]"));
  EXPECT_THAT(spelled(*tokenizer, "cafe\u0301 x hell"),
              ElementsAre("\u2581cafe", "[UNK]", "[UNK]"));
  EXPECT_EQ(tokenizer->decode(tokenizer->encode("Hello,world")), "hello , world");
  EXPECT_THAT(spelled(*tokenizer, std::string("he\0llo\u200B\xFF", 10)),
              ElementsAre("\u2581hello"));
}

TEST(Bert, WordsOfMoreThanAHundredCharactersAreUnknown) {
  const auto tokenizer = make(bert_metadata({"\u2581a", "a"}));
  EXPECT_EQ(tokenizer->encode(std::string(100, 'a'), {.add_special = false}).size(), 100u);
  EXPECT_THAT(spelled(*tokenizer, std::string(101, 'a')), ElementsAre("[UNK]"));
}

TEST(Bert, CasedVocabulariesAreLeftCased) {
  std::vector<std::string> pieces = {"\u2581Hi", "\u2581hi"};
  for (char c = 'A'; c <= 'Z'; ++c) pieces.push_back(std::string("\u2581") + c);
  EXPECT_THAT(spelled(*make(bert_metadata(pieces)), "Hi hi"), ElementsAre("\u2581Hi", "\u2581hi"));
}

TEST(BadVocabulary, IsRefusedByName) {
  const Metadata good = sentencepiece_metadata("llama", {"\u2581", "a"});
  Metadata bad = good;
  bad.erase("tokenizer.ggml.tokens");
  expect_refused(bad, "tokenizer.ggml.tokens");
  bad = good;
  bad.set_strings("tokenizer.ggml.tokens", {});
  expect_refused(bad, "tokenizer.ggml.tokens");
  bad = good;
  bad.set_floats("tokenizer.ggml.scores", {1, 2});
  expect_refused(bad, "tokenizer.ggml.scores");
  bad = good;
  bad.erase("tokenizer.ggml.scores");
  expect_refused(bad, "tokenizer.ggml.scores");
  bad = good;
  auto scores = *good.get_floats("tokenizer.ggml.scores");
  scores[5] = std::numeric_limits<float>::quiet_NaN();
  bad.set_floats("tokenizer.ggml.scores", scores);
  expect_refused(bad, "tokenizer.ggml.scores[5]");
  bad = good;
  bad.set_ints("tokenizer.ggml.token_type", {1});
  expect_refused(bad, "tokenizer.ggml.token_type");
  bad = good;
  auto kinds = *good.get_ints("tokenizer.ggml.token_type");
  kinds[7] = 99;
  bad.set_ints("tokenizer.ggml.token_type", {kinds.begin(), kinds.end()});
  expect_refused(bad, "tokenizer.ggml.token_type[7]");
  for (const char* name : {"bos", "eos", "unknown", "seperator", "cls", "eot", "eom"}) {
    const std::string key = fmt::format("tokenizer.ggml.{}_token_id", name);
    bad = good;
    bad.set_uint(key, 100000);
    expect_refused(bad, key);
    bad.set_int(key, -1);
    expect_refused(bad, key);
    bad.set_uint(key, 0xFFFFFFFF);
    expect_refused(bad, key);
  }
  bad = good;
  bad.set_string("tokenizer.ggml.model", "no_vocab");
  expect_refused(bad, "tokenizer.ggml.model");
  bad.erase("tokenizer.ggml.model");
  expect_refused(bad, "tokenizer.ggml.model");
}

TEST(BadVocabulary, ByteTokensMustSpellAByte) {
  for (const char* text : {"<0x-1>", "<0xZZ>", "<0x>", "<0x123>", "<0x 1>", "", "<0X41>", "<0x4"}) {
    Metadata metadata = sentencepiece_metadata("llama", {"a"});
    auto tokens = *metadata.get_strings("tokenizer.ggml.tokens");
    std::vector<std::string> changed(tokens.begin(), tokens.end());
    changed[10] = text;
    metadata.set_strings("tokenizer.ggml.tokens", changed);
    expect_refused(metadata, "tokenizer.ggml.tokens[10]");
  }
}

TEST(BadVocabulary, MergesMustHaveTwoParts) {
  for (const char* merge : {"", "ab", " ab", "a "}) {
    Metadata metadata = gpt2_metadata({});
    metadata.set_strings("tokenizer.ggml.merges", {"a b", merge});
    expect_refused(metadata, "tokenizer.ggml.merges[1]");
  }
  Metadata metadata = gpt2_metadata({});
  metadata.erase("tokenizer.ggml.merges");
  expect_refused(metadata, "tokenizer.ggml.merges");
}

TEST(BadVocabulary, RepeatedAndEmptyTokensOnlyDecode) {
  Metadata metadata = sentencepiece_metadata("llama", {"\u2581", "a", "a", "", "b"});
  const auto tokenizer = make(metadata);
  EXPECT_THAT(tokenizer->encode("ab", {.add_special = false}), ElementsAre(259, 260, 263));
  EXPECT_EQ(tokenizer->piece(261), "a");
  EXPECT_EQ(tokenizer->piece(262), "");
  EXPECT_EQ(tokenizer->find(""), std::nullopt);
}

TEST(BadVocabulary, WithoutTypesBytesAndEndsAreStillKnown) {
  Metadata metadata = sentencepiece_metadata("llama", {"\u2581", "a"});
  metadata.erase("tokenizer.ggml.token_type");
  const auto tokenizer = make(metadata);
  EXPECT_EQ(tokenizer->decode(tokenizer->encode("a\u00E9")), "a\u00E9");
  EXPECT_EQ(tokenizer->piece(*tokenizer->eos()), "");
}

TEST(BadVocabulary, WildMergesDoNotCrash) {
  for (uint64_t seed = 0; seed < 100; ++seed) {
    Metadata metadata = gpt2_metadata(kMerges);
    std::vector<std::string> merges;
    for (uint64_t i = 0; i < 200; ++i)
      merges.push_back(random_text(seed * 1000 + i, 3) + " " +
                       random_text(seed * 1000 + i + 500, 2));
    metadata.set_strings("tokenizer.ggml.merges", merges);
    const auto tokenizer = Tokenizer::from_metadata(metadata);
    if (tokenizer.ok()) (*tokenizer)->encode(random_text(seed, 500));
  }
}

TEST(Tokenizer, IdsOutsideTheVocabularyGiveNothing) {
  for (const Metadata& metadata :
       {gpt2_metadata({}), sentencepiece_metadata("llama", {"a"}), bert_metadata({"a"})}) {
    const auto tokenizer = make(metadata);
    for (const TokenId id : {-1, static_cast<TokenId>(tokenizer->vocab_size()), 1 << 30}) {
      EXPECT_EQ(tokenizer->piece(id, true), "");
      EXPECT_EQ(tokenizer->token_text(id), "");
      EXPECT_EQ(tokenizer->kind(id), TokenKind::kUnused);
      EXPECT_EQ(tokenizer->decode(std::vector<TokenId>{id}), "");
    }
  }
}

TEST(Tokenizer, ThreadsShareOne) {
  Metadata metadata = gpt2_metadata(kMerges);
  metadata.set_string("tokenizer.ggml.pre", "deepseek-v3");  // no hand-written code in it
  const auto tokenizer = make(metadata);
  std::vector<std::string> texts;
  std::vector<std::vector<TokenId>> expected;
  for (uint64_t seed = 0; seed < 40; ++seed) {
    texts.push_back(random_text(seed, 200));
    expected.push_back(tokenizer->encode(texts.back()));
  }
  std::vector<int> wrong(4, 0);
  std::vector<std::thread> threads;
  for (int& count : wrong)
    threads.emplace_back([&] {
      for (size_t i = 0; i < texts.size(); ++i)
        count += tokenizer->encode(texts[i]) != expected[i] ||
                 tokenizer->decode(expected[i]) != texts[i];
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(wrong, ::testing::Each(0));
}

TEST(Tokenizer, EverySchemeTakesAMegabyteOfAnythingAndNeverCrashes) {
  const std::vector<std::string> pieces = {
      "\u2581", "a",  "aa",  "aaaa", "aaaaaaaa", "\u2581\u2581", "\u2581\u2581\u2581\u2581",
      "1",      "11", "\n\n"};
  std::vector<Metadata> all = {
      gpt2_metadata({{"a", "a"}, {"aa", "aa"}, {"aaaa", "aaaa"}, {" ", " "}, {"  ", "  "}}),
      sentencepiece_metadata("llama", pieces), sentencepiece_metadata("t5", pieces),
      bert_metadata({"\u2581a", "a", "\u25811", "1"})};
  EXPECT_EQ(all.size(), all_tokenizer_schemes().size());
  for (const Metadata& metadata : all) {
    const auto tokenizer = make(metadata);
    for (const char* unit :
         {" ", "a", "1", "\n", "\u4E2D", "\U0001F600", "\u0301", "\xFF", "<tool>"}) {
      const std::string text = repeat(unit, 1 << 20);
      const double start = cpu_seconds();
      const auto ids = tokenizer->encode(text);
      EXPECT_LT(cpu_seconds() - start, 2.0 * testing::kPatience)
          << *metadata.get_string("tokenizer.ggml.model") << " on '" << unit << "'";
      for (const TokenId id : {ids.front(), ids.back()}) EXPECT_LT(id, tokenizer->vocab_size());
    }
    for (uint64_t seed = 0; seed < 50; ++seed) {
      std::string noise;
      for (uint64_t i = 0; i < 300; ++i) noise += static_cast<char>(random_bits(seed, 0, i));
      tokenizer->decode(tokenizer->encode(noise, {.parse_special = true}), true);
    }
  }
}

}  // namespace
}  // namespace venturi
