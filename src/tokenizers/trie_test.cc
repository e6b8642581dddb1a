#include "tokenizers/trie.h"

#include <gtest/gtest.h>

#include <map>
#include <string>

#include "base/random.h"

namespace venturi {
namespace {

TEST(Trie, FindsTheLongestKey) {
  const Trie trie(
      {{"a", 1}, {"abc", 2}, {"b", 3}, {"", 4}, {"a", 5}, {std::string_view("\0x", 2), 6}});
  EXPECT_EQ(trie.longest("abx", 0).value, 1);
  EXPECT_EQ(trie.longest("abc", 0).length, 3u);
  EXPECT_EQ(trie.longest("abc", 1).value, 3);
  EXPECT_EQ(trie.longest("xyz", 0).value, -1);
  EXPECT_EQ(trie.longest(std::string_view("\0x", 2), 0).value, 6);
  EXPECT_EQ(Trie().longest("a", 0).value, -1);
}

TEST(Trie, AgreesWithAMapOnRandomKeys) {
  std::map<std::string, int32_t> keys;
  for (uint64_t i = 0; i < 3000; ++i) {
    std::string key;
    const uint64_t length = 1 + random_bits(1, 0, i) % 6;
    for (uint64_t k = 0; k < length; ++k)
      key += static_cast<char>(0xFA + random_bits(2, i, k) % 10);
    keys.try_emplace(key, static_cast<int32_t>(i));
  }
  std::vector<std::pair<std::string_view, int32_t>> list(keys.begin(), keys.end());
  const Trie trie(list);
  for (uint64_t i = 0; i < 3000; ++i) {
    std::string text;
    for (uint64_t k = 0; k < 8; ++k) text += static_cast<char>(0xFA + random_bits(3, i, k) % 10);
    Trie::Match expected;
    for (size_t n = 1; n <= text.size(); ++n)
      if (const auto hit = keys.find(text.substr(0, n)); hit != keys.end())
        expected = {hit->second, n};
    const Trie::Match found = trie.longest(text, 0);
    EXPECT_EQ(found.value, expected.value);
    EXPECT_EQ(found.length, expected.length);
  }
}

}  // namespace
}  // namespace venturi
