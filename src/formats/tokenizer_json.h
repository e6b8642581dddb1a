// tokenizer.json of Hugging Face: the vocabulary and merges, which are large, are taken out while
// parsing and kept compactly; the rest (normaliser, pre-tokenizer, post-processor, decoder) is
// small and stays JSON.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace venturi {

// Many strings in one: a vocabulary of 256,000 costs its bytes and eight more each.
class StringTable {
 public:
  void add(std::string_view text) {
    bytes_ += text;
    ends_.push_back(bytes_.size());
  }
  size_t size() const { return ends_.size(); }
  std::string_view operator[](size_t i) const {
    const size_t begin = i == 0 ? 0 : ends_[i - 1];
    return std::string_view(bytes_).substr(begin, ends_[i] - begin);
  }

 private:
  std::string bytes_;
  std::vector<size_t> ends_;
};

struct AddedToken {
  int64_t id;
  std::string content;
  bool special;
};

struct TokenizerJson {
  std::string type;                     // "BPE", "Unigram" or "WordPiece"
  StringTable pieces;                   // in the order of the file
  std::vector<int64_t> ids;             // of each piece
  std::vector<double> scores;           // Unigram only, of each piece
  StringTable merge_left, merge_right;  // BPE only, best first
  std::vector<AddedToken> added;
  nlohmann::json rest;  // without model.vocab and model.merges
};

// `path` is for messages. Ids are in [0, 2^31) and unique among pieces.
Result<TokenizerJson> parse_tokenizer_json(std::string_view text, const std::string& path);

}  // namespace venturi
