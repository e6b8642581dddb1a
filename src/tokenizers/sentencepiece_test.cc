#include "tokenizers/sentencepiece.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "base/random.h"

namespace venturi {
namespace {

void append_u32(uint32_t value, std::string& out) {
  for (int shift = 0; shift < 32; shift += 8) out += static_cast<char>(value >> shift);
}

// A double array that gives every node a block of 256 units: wasteful, but plainly right.
std::string chars_map(const std::map<std::string, std::string>& rules) {
  std::map<std::string, uint32_t> blocks = {{"", 0}};  // prefix -> its block
  for (const auto& [from, to] : rules)
    for (size_t n = 1; n <= from.size(); ++n)
      blocks.try_emplace(from.substr(0, n), static_cast<uint32_t>(blocks.size()));
  std::vector<uint32_t> units((blocks.size() + 1) * 256, 1u << 31);  // no byte has that label
  std::string replacements;
  std::map<std::string, uint32_t> where = {{"", 0}};  // prefix -> its unit
  units[0] = 1u << 18;                                // the root's children are in block 1
  const auto base = [&](const std::string& prefix) { return (blocks[prefix] + 1) * 256; };
  for (const auto& [prefix, block] : blocks) {  // in order: a prefix before what it begins
    if (prefix.empty()) continue;
    const auto label = static_cast<uint8_t>(prefix.back());
    const uint32_t at = base(prefix.substr(0, prefix.size() - 1)) ^ label;
    units[at] = (at ^ base(prefix)) << 10 | label;
    const auto rule = rules.find(prefix);
    if (rule == rules.end()) continue;
    units[at] |= 1u << 8;
    units[base(prefix)] = 1u << 31 | static_cast<uint32_t>(replacements.size());
    replacements += rule->second + '\0';
  }
  std::string out;
  append_u32(static_cast<uint32_t>(units.size() * 4), out);
  for (const uint32_t unit : units) append_u32(unit, out);
  return out + replacements;
}

MetaValue byte_array(std::string bytes) {
  const uint64_t n = bytes.size();
  return {MetaType::kArray, MetaArray{MetaType::kU8, n, std::move(bytes)}};
}

const std::map<std::string, std::string> kRules = {
    {"\uFF21", "A"}, {"\uFB01", "fi"}, {"\u3000", " "}, {"\t", " "}, {"ab", "X"}, {"abc", "YZ"}};

TEST(CharsMap, ReplacesTheLongestMatch) {
  const auto map = CharsMap::parse(chars_map(kRules));
  ASSERT_TRUE(map.ok()) << map.error().message;
  EXPECT_EQ(map->apply("\uFF21\uFB01x\u3000\t"), "Afix  ");
  EXPECT_EQ(map->apply("abcabdab"), "YZXdX");
  EXPECT_EQ(map->apply("\u20AC\xFF\xEF\xBC"), "\u20AC\uFFFD\uFFFD\uFFFD");
  EXPECT_EQ(map->apply(""), "");
}

TEST(CharsMap, RefusesWhatContradictsItself) {
  EXPECT_FALSE(CharsMap::parse("abc").ok());
  EXPECT_FALSE(CharsMap::parse(std::string("\xFF\xFF\xFF\xFFxxxx", 8)).ok());
  EXPECT_FALSE(CharsMap::parse(std::string("\0\0\0\0xxxx", 8)).ok());
  EXPECT_FALSE(CharsMap::parse(chars_map(kRules) + "open end").ok());
}

TEST(CharsMap, DamageNeverReadsOutside) {
  const std::string good = chars_map(kRules);
  for (uint64_t seed = 0; seed < 300; ++seed) {
    std::string bad = good;
    for (uint64_t k = 0; k < 400; ++k)
      bad[4 + random_bits(seed, 0, k) % (bad.size() - 5)] =
          static_cast<char>(random_bits(seed, 1, k));
    const auto map = CharsMap::parse(bad);
    if (map.ok()) map->apply("\uFF21\uFB01 abcabdab \u3000");
  }
}

TEST(SentencePieceNormalizer, SpacesAndPrefix) {
  Metadata metadata;
  auto plain = SentencePieceNormalizer::create(metadata).value();
  EXPECT_EQ(plain.apply(" a  b ", true), "\u2581\u2581a\u2581\u2581b\u2581");
  EXPECT_EQ(plain.apply("a", false), "a");
  metadata.set_bool("tokenizer.ggml.add_space_prefix", false);
  EXPECT_EQ(SentencePieceNormalizer::create(metadata).value().apply("a b", true), "a\u2581b");
  metadata.set_bool("tokenizer.ggml.remove_extra_whitespaces", true);
  EXPECT_EQ(SentencePieceNormalizer::create(metadata).value().apply("  a   b  ", true), "a\u2581b");
  metadata.set_bool("tokenizer.ggml.add_space_prefix", true);
  metadata.set("tokenizer.ggml.precompiled_charsmap", byte_array(chars_map(kRules)));
  const auto all = SentencePieceNormalizer::create(metadata).value();
  EXPECT_EQ(all.apply(" \uFF21\u3000\tb ", true), "\u2581A\u2581b");
  EXPECT_EQ(all.apply("   ", true), "");
}

TEST(SentencePieceNormalizer, NamesTheBadKey) {
  Metadata metadata;
  metadata.set_string("tokenizer.ggml.precompiled_charsmap", "text");
  const auto result = SentencePieceNormalizer::create(metadata);
  ASSERT_FALSE(result.ok());
  EXPECT_THAT(result.error().message, ::testing::HasSubstr("precompiled_charsmap"));
}

}  // namespace
}  // namespace venturi
