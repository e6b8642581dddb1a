#include <algorithm>

#include "chat/encode.h"

namespace venturi::chat {

void ControlTokens::add(std::string_view spelling, TokenId id) {
  if (spelling.empty() || !ids_.try_emplace(std::string(spelling), id).second) return;
  auto& lengths = groups_[static_cast<uint8_t>(spelling[0])].lengths;
  const auto at =
      std::lower_bound(lengths.begin(), lengths.end(), spelling.size(), std::greater<>());
  if (at == lengths.end() || *at != spelling.size()) lengths.insert(at, spelling.size());
}

ControlTokens::Match ControlTokens::longest_at(std::string_view text, size_t at) const {
  for (const size_t length : groups_[static_cast<uint8_t>(text[at])].lengths) {
    if (length > text.size() - at) continue;
    const auto found = ids_.find(std::string(text.substr(at, length)));
    if (found != ids_.end()) return {found->second, length};
  }
  return {};
}

std::vector<Piece> cut_at_control_tokens(const std::vector<Segment>& segments,
                                         const ControlTokens& tokens) {
  std::vector<Piece> pieces;
  std::string plain;
  std::string written;  // template text not yet searched; neighbouring segments are one text
  const auto search = [&] {
    for (size_t at = 0; at < written.size();) {
      const auto match = tokens.longest_at(written, at);
      if (match.length == 0) {
        plain += written[at++];
        continue;
      }
      if (!plain.empty()) pieces.emplace_back(std::exchange(plain, {}));
      pieces.emplace_back(match.id);
      at += match.length;
    }
    written.clear();
  };
  for (const Segment& segment : segments) {
    if (segment.is_template_text) {
      written += segment.text;
    } else if (!segment.text.empty()) {
      search();
      plain += segment.text;
    }
  }
  search();
  if (!plain.empty()) pieces.emplace_back(std::move(plain));
  return pieces;
}

}  // namespace venturi::chat
