#include "tokenizers/special_matcher.h"

#include <algorithm>
#include <utility>

namespace venturi {

namespace {

bool is_ascii_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

bool listed(const std::vector<TokenId>& ids, TokenId id) {
  return std::binary_search(ids.begin(), ids.end(), id);
}

}  // namespace

Result<SpecialMatcher> SpecialMatcher::create(const Vocabulary& vocab, const Metadata& metadata) {
  SpecialMatcher matcher;
  std::vector<std::pair<std::string_view, int32_t>> user_defined, all;
  for (TokenId id = 0; id < vocab.size(); ++id) {
    const TokenKind kind = vocab.kind(id);
    if (kind == TokenKind::kUserDefined) user_defined.emplace_back(vocab.text(id), id);
    if (kind == TokenKind::kUserDefined || kind == TokenKind::kControl ||
        kind == TokenKind::kUnknown)
      all.emplace_back(vocab.text(id), id);
  }

  // Which tokens strip is part of tokenizer.json but has no GGUF key; these are the families known.
  std::string name = TRY(metadata.string_or("general.name", ""));
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) {
    return static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
  });
  const std::string pre = TRY(metadata.string_or("tokenizer.ggml.pre", ""));
  const auto names = [&](std::string_view part) { return name.find(part) != std::string::npos; };
  if (pre == "jina-v2-de" || pre == "jina-v2-es" || pre == "jina-v2-code") {
    if (const auto id = vocab.find("<mask>")) matcher.strips_left_.push_back(*id);
  } else if (names("modern-bert") || names("modernbert")) {
    if (const auto id = vocab.find("[MASK]")) matcher.strips_left_.push_back(*id);
  } else if (names("phi-3") || names("phi3")) {
    for (const auto& [text, id] : all)
      if (text != "<unk>" && text != "<s>" && text != "<|endoftext|>")
        matcher.strips_right_.push_back(id);
  }
  matcher.user_defined_ = Trie(std::move(user_defined));
  matcher.all_ = Trie(std::move(all));
  return matcher;
}

void SpecialMatcher::split(std::string_view text, bool control,
                           const std::function<void(std::string_view)>& on_text,
                           const std::function<void(TokenId)>& on_token) const {
  const Trie& trie = control ? all_ : user_defined_;
  size_t begin = 0;
  for (size_t at = 0; at < text.size();) {
    const Trie::Match match = trie.longest(text, at);
    if (match.value < 0) {
      ++at;
      continue;
    }
    size_t end = at;
    if (listed(strips_left_, match.value))
      while (end > begin && is_ascii_space(text[end - 1])) --end;
    if (end > begin) on_text(text.substr(begin, end - begin));
    on_token(match.value);
    at += match.length;
    if (listed(strips_right_, match.value))
      while (at < text.size() && is_ascii_space(text[at])) ++at;
    begin = at;
  }
  if (begin < text.size()) on_text(text.substr(begin));
}

}  // namespace venturi
