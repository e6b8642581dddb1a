#include "chat/encode.h"

namespace venturi::chat {

SegmentEncoder::SegmentEncoder(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {
  for (TokenId id = 0; id < tokenizer.vocab_size(); ++id) {
    const TokenKind kind = tokenizer.kind(id);
    if (kind == TokenKind::kControl || kind == TokenKind::kUnknown)
      tokens_.add(tokenizer.token_text(id), id);
  }
}

std::vector<TokenId> SegmentEncoder::encode(const std::vector<Segment>& segments) const {
  std::vector<TokenId> ids;
  for (const Piece& piece : cut_at_control_tokens(segments, tokens_)) {
    if (const TokenId* id = std::get_if<TokenId>(&piece)) {
      ids.push_back(*id);
      continue;
    }
    const auto part = tokenizer_.encode(std::get<std::string>(piece),
                                        {.add_special = false, .parse_special = false});
    ids.insert(ids.end(), part.begin(), part.end());
  }
  return ids;
}

}  // namespace venturi::chat
