// Words repeat: within one text, a word met before is copied from where its tokens already stand.
// A direct-mapped table of places, so it costs no allocation per word; it lives for one encode
// call.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include "tokenizers/tokenizer.h"

namespace venturi {

class WordMemo {
 public:
  // `text_bytes` sizes the table. The words are views that outlive the memo.
  explicit WordMemo(size_t text_bytes)
      : entries_(std::bit_ceil(std::clamp<size_t>(text_bytes / 8, 1, 1 << 14))) {}

  // Calls encode(), which appends the tokens of `word` to `out`, or copies what it appended before.
  // Nothing but encode calls of this memo may take tokens out of `out`.
  template <typename Encode>
  void append(std::string_view word, std::vector<TokenId>& out, const Encode& encode) {
    if (word.size() > kLongest) return encode();
    Entry& entry = entries_[std::hash<std::string_view>()(word) & (entries_.size() - 1)];
    if (entry.word == word) {
      for (size_t i = entry.first; i < entry.last; ++i) out.push_back(TokenId{out[i]});
      return;
    }
    const size_t first = out.size();
    encode();
    entry = {word, first, out.size()};
  }

 private:
  static constexpr size_t kLongest = 64;  // bytes; longer words seldom come again
  struct Entry {
    std::string_view word;
    size_t first = 0, last = 0;  // of the tokens, in `out`
  };
  std::vector<Entry> entries_;
};

}  // namespace venturi
