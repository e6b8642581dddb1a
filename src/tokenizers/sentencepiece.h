// What SentencePiece does to a text before it cuts it: a table of replacements, spaces, the prefix.
//
// Kudo, Richardson, "SentencePiece: a simple and language independent subword tokenizer and
// detokenizer for neural text processing" (2018).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "formats/metadata.h"

namespace venturi {

inline constexpr std::string_view kSpaceMark = "\u2581";  // "▁", how pieces spell a space

// SentencePiece's precompiled character map: a double-array trie from byte strings to replacements
// (Yata, Aoe; layout of the darts-clone library), then the replacements, each ended by a 0 byte.
// Nodes are little-endian 32-bit units: bits 0-7 and 31 the label, bit 8 "has a value", bits 10-30
// the offset, times 256 when bit 9 is set. Every index is checked when it is used.
class CharsMap {
 public:
  // `bytes` is a 32-bit length of the trie, the trie, the replacements.
  static Result<CharsMap> parse(std::string_view bytes);

  // The text with the longest match at each place replaced; bytes that are neither matched nor
  // UTF-8 become U+FFFD.
  std::string apply(std::string_view text) const;

 private:
  struct Match {
    size_t length = 0;
    std::string_view replacement;
  };
  Match longest(std::string_view text, size_t at) const;

  std::vector<uint32_t> units_;
  std::string replacements_;
};

class SentencePieceNormalizer {
 public:
  // From tokenizer.ggml.add_space_prefix, remove_extra_whitespaces and precompiled_charsmap.
  static Result<SentencePieceNormalizer> create(const Metadata& metadata);

  // The text to be cut, with every space spelled as kSpaceMark. `opens` as in Scheme::encode.
  std::string apply(std::string_view text, bool opens) const;
  bool adds_space() const { return add_space_; }
  bool drops_bytes() const { return remove_extra_ || map_; }

 private:
  bool add_space_ = true;
  bool remove_extra_ = false;
  std::optional<CharsMap> map_;
};

// The bytes of a piece: marks become spaces.
std::string unmark_spaces(std::string_view piece);

}  // namespace venturi
