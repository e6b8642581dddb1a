// Rendered segments to token ids, so that only the template's own text can name control tokens.
//
// Control tokens are searched for in the template's stretches alone (leftmost first, the longest at
// a place); a spelling that is partly or wholly from outside is never one. What lies between two
// control tokens is encoded in one piece, whoever wrote its parts, so that merges across a segment
// boundary come out as if the whole text had been encoded at once.
#pragma once

#include <string>
#include <string_view>
#include <unordered_map>
#include <variant>
#include <vector>

#include "chat/template.h"
#include "tokenizers/tokenizer.h"

namespace venturi::chat {

// The spellings of control tokens, for search.
class ControlTokens {
 public:
  void add(std::string_view spelling, TokenId id);
  struct Match {
    TokenId id = 0;
    size_t length = 0;  // 0: none
  };
  Match longest_at(std::string_view text, size_t at) const;

 private:
  struct Group {  // of the spellings that share a first byte: lengths, longest first
    std::vector<size_t> lengths;
  };
  Group groups_[256];
  std::unordered_map<std::string, TokenId> ids_;
};

// What a text falls into: a control token, or plain text between two.
using Piece = std::variant<TokenId, std::string>;
std::vector<Piece> cut_at_control_tokens(const std::vector<Segment>& segments,
                                         const ControlTokens& tokens);

// Made once per tokenizer, which must outlive it. Const members may be called from any thread.
class SegmentEncoder {
 public:
  explicit SegmentEncoder(const Tokenizer& tokenizer);
  // No BOS or EOS is added: templates write their own.
  std::vector<TokenId> encode(const std::vector<Segment>& segments) const;

 private:
  const Tokenizer& tokenizer_;
  ControlTokens tokens_;
};

}  // namespace venturi::chat
