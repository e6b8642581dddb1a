// The tokens of a model: texts, kinds, scores, special ids, as tokenizer.ggml.* states them,
// checked.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "formats/metadata.h"
#include "tokenizers/tokenizer.h"

namespace venturi {

// What a scheme assumes where the metadata says nothing.
struct SchemeDefaults {
  bool add_bos = false;
  bool add_eos = false;
  bool add_sep = false;
  bool needs_scores = false;
  bool hex_bytes = false;  // bytes are tokens spelled <0x41>
  // Ids that hold only if the vocabulary has them.
  std::optional<TokenId> bos = std::nullopt;
  std::optional<TokenId> eos = std::nullopt;
  std::optional<TokenId> unk = std::nullopt;
  std::optional<TokenId> sep = std::nullopt;
};

// Finds a token by its text. Of equal texts the first that can stand in a text wins, so that a
// repeated token still decodes but is never produced.
class TokenIndex {
 public:
  void build(size_t n_tokens);
  std::optional<TokenId> find(const class Vocabulary& vocab, std::string_view text) const;
  void insert(const class Vocabulary& vocab, TokenId id);

 private:
  std::vector<TokenId> slots_;  // a power of two of them, at most half full; -1 is free
};

class Vocabulary {
 public:
  static Result<std::unique_ptr<Vocabulary>> read(const Metadata& metadata,
                                                  const SchemeDefaults& defaults);

  int64_t size() const { return static_cast<int64_t>(kinds_.size()); }
  bool contains(TokenId id) const { return id >= 0 && id < size(); }
  std::string_view text(TokenId id) const {
    return std::string_view(texts_).substr(begins_[id], begins_[id + 1] - begins_[id]);
  }
  TokenKind kind(TokenId id) const { return kinds_[id]; }
  bool has_scores() const { return !scores_.empty(); }
  float score(TokenId id) const { return scores_[id]; }

  // By text, whatever its kind.
  std::optional<TokenId> find(std::string_view text) const { return index_.find(*this, text); }
  // Only tokens that ordinary text may become: never a control, unknown or byte token, so that no
  // spelling in a user's text turns into one.
  std::optional<TokenId> find_textual(std::string_view text) const;
  static bool is_textual(TokenKind kind) {
    return kind == TokenKind::kNormal || kind == TokenKind::kUserDefined ||
           kind == TokenKind::kUnused;
  }
  // The token of a byte for schemes with hex_bytes: <0x41>, else the byte itself; -1 if neither.
  TokenId byte_token(uint8_t byte) const { return byte_tokens_[byte]; }
  // The byte that a kByte token stands for.
  std::optional<uint8_t> byte_of(TokenId id) const;

  std::optional<TokenId> bos, eos, unk, sep, eot;
  bool add_bos = false, add_eos = false, add_sep = false;
  bool is_end_of_generation(TokenId id) const;
  size_t longest_text() const { return longest_text_; }  // bytes

 private:
  Status read_tokens(const Metadata& metadata, const SchemeDefaults& defaults);
  Status read_specials(const Metadata& metadata, const SchemeDefaults& defaults);
  Status read_byte_tokens(const SchemeDefaults& defaults);
  void name_controls();

  std::string texts_;           // one after another
  std::vector<size_t> begins_;  // [n_tokens + 1] into texts_
  std::vector<TokenKind> kinds_;
  std::vector<float> scores_;  // empty, or [n_tokens]
  TokenIndex index_;
  std::array<TokenId, 256> byte_tokens_;
  std::vector<TokenId> end_ids_;  // sorted
  size_t longest_text_ = 0;
};

}  // namespace venturi
