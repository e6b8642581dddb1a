#include "grammar/constraint.h"

#include <algorithm>
#include <limits>

namespace venturi::grammar {

namespace {

constexpr size_t kMaxMaskBytes = 1 << 20;

}  // namespace

TokenTrie::TokenTrie(const Tokenizer& tokenizer) {
  const int64_t n = tokenizer.vocab_size();
  bytes_.resize(static_cast<size_t>(n));
  std::vector<TokenId> order;
  for (TokenId id = 0; id < n; ++id) {
    if (tokenizer.is_end_of_generation(id)) {
      endings_.push_back(id);
      continue;
    }
    const TokenKind kind = tokenizer.kind(id);
    if (kind != TokenKind::kNormal && kind != TokenKind::kUserDefined && kind != TokenKind::kByte) continue;
    bytes_[id] = tokenizer.piece(id);
    if (!bytes_[id].empty() && bytes_[id].size() < 4096) order.push_back(id);
  }
  std::stable_sort(order.begin(), order.end(), [&](TokenId a, TokenId b) { return bytes_[a] < bytes_[b]; });
  std::vector<int32_t> path;  // nodes of the bytes of the token before
  const std::string* before = nullptr;
  for (const TokenId id : order) {
    const std::string& now = bytes_[id];
    size_t shared = 0;
    if (before)
      while (shared < now.size() && shared < before->size() && now[shared] == (*before)[shared]) ++shared;
    while (path.size() > shared) {
      nodes_[path.back()].skip = static_cast<int32_t>(nodes_.size());
      path.pop_back();
    }
    for (size_t i = shared; i < now.size(); ++i) {
      path.push_back(static_cast<int32_t>(nodes_.size()));
      nodes_.push_back({static_cast<uint8_t>(now[i]), 0, static_cast<int32_t>(tokens_.size())});
      depths_.push_back(static_cast<uint16_t>(i));
    }
    tokens_.push_back(id);
    before = &now;
  }
  for (const int32_t node : path) nodes_[node].skip = static_cast<int32_t>(nodes_.size());
}

Constraint::Constraint(std::shared_ptr<const Automaton> automaton, std::shared_ptr<const TokenTrie> trie, MatcherLimits limits)
    : trie_(std::move(trie)), matcher_(std::move(automaton), limits), set_(matcher_.start()) {}

const std::vector<uint64_t>& Constraint::allowed() {
  if (const auto at = masks_.find(set_); at != masks_.end()) return at->second;
  const size_t words = static_cast<size_t>(trie_->vocab_size() + 63) / 64;
  if (masks_.size() * words * sizeof(uint64_t) >= kMaxMaskBytes) masks_.clear();
  std::vector<uint64_t>& bits = masks_[set_];
  bits.assign(words, 0);
  const auto allow = [&](TokenId id) { bits[id / 64] |= uint64_t{1} << (id % 64); };
  const auto& nodes = trie_->nodes();
  std::vector<Matcher::Set> path = {set_};  // [depth]: before the byte at that depth
  for (size_t i = 0; i < nodes.size();) {
    const size_t depth = trie_->depths()[i];
    const Matcher::Set after = matcher_.next(path[depth], nodes[i].byte);
    if (after == Matcher::kDead) {
      i = static_cast<size_t>(nodes[i].skip);
      continue;
    }
    if (path.size() < depth + 2) path.resize(depth + 2);
    path[depth + 1] = after;
    for (const TokenId id : trie_->tokens(i)) allow(id);
    ++i;
  }
  if (matcher_.accepts(set_))
    for (const TokenId id : trie_->endings()) allow(id);
  return bits;
}

Status Constraint::mask(std::span<float> logits) {
  if (matcher_.full()) {
    set_ = matcher_.collect(set_);
    masks_.clear();
  }
  const std::vector<uint64_t>& bits = allowed();
  uint64_t any = 0;
  for (size_t id = 0; id < logits.size(); ++id) {
    const bool may = id / 64 < bits.size() && (bits[id / 64] >> (id % 64) & 1);
    any |= may;
    if (!may) logits[id] = -std::numeric_limits<float>::infinity();
  }
  if (!any)
    return error(Code::kInvalidArgument, "no token of the vocabulary can continue the text as the grammar asks; "
                                         "it has to spell every character the grammar needs");
  return {};
}

Status Constraint::accept(TokenId id) {
  const auto refused = [&] { return error(Code::kInvalidArgument, "the token {} cannot come here by the grammar", id); };
  if (ended_ || id < 0 || id >= trie_->vocab_size()) return refused();
  if (std::find(trie_->endings().begin(), trie_->endings().end(), id) != trie_->endings().end()) {
    if (!complete()) return refused();
    ended_ = true;
    return {};
  }
  Matcher::Set set = set_;
  for (const char byte : trie_->bytes(id)) set = matcher_.next(set, static_cast<uint8_t>(byte));
  if (set == Matcher::kDead || trie_->bytes(id).empty()) return refused();
  set_ = set;
  return {};
}

bool Constraint::finished() const { return ended_ || (complete() && matcher_.can_only_end(set_)); }

}  // namespace venturi::grammar
