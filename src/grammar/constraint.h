// A grammar laid over a vocabulary: which tokens may come next.
//
// A token may come if its bytes lead on from the text so far; one that ends generation if the text
// is whole. The vocabulary is a trie that is walked together with the automaton, so tokens that
// share a beginning share its cost; the answer for a set of states is kept, and asked for again in
// most steps. Control tokens never come. Threads: a TokenTrie is immutable; a Constraint belongs to
// one sequence.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "grammar/matcher.h"
#include "tokenizers/tokenizer.h"

namespace venturi::grammar {

class TokenTrie {
 public:
  explicit TokenTrie(const Tokenizer& tokenizer);

  struct Node {
    uint8_t byte;
    int32_t skip;         // the node after this one's descendants
    int32_t first_token;  // into tokens: those that end here, up to those of the next node
  };
  // Depth first; a node's children follow it.
  const std::vector<Node>& nodes() const { return nodes_; }
  const std::vector<uint16_t>& depths() const { return depths_; }  // of a node's byte in its token
  std::span<const TokenId> tokens(size_t node) const {
    const int32_t begin = nodes_[node].first_token;
    const int32_t end = node + 1 < nodes_.size() ? nodes_[node + 1].first_token : static_cast<int32_t>(tokens_.size());
    return {tokens_.data() + begin, static_cast<size_t>(end - begin)};
  }
  const std::vector<TokenId>& endings() const { return endings_; }  // tokens that end generation
  const std::string& bytes(TokenId id) const { return bytes_[id]; }
  int64_t vocab_size() const { return static_cast<int64_t>(bytes_.size()); }

 private:
  std::vector<Node> nodes_;
  std::vector<uint16_t> depths_;
  std::vector<TokenId> tokens_, endings_;
  std::vector<std::string> bytes_;
};

class Constraint {
 public:
  Constraint(std::shared_ptr<const Automaton> automaton, std::shared_ptr<const TokenTrie> trie, MatcherLimits limits = {});

  // Sets the logits [vocab_size] of what may not come next to -infinity; a longer row's rest too.
  // Code::kInvalidArgument when nothing may: the vocabulary cannot spell what the grammar asks for.
  Status mask(std::span<float> logits);
  // The token drawn. Code::kInvalidArgument if it may not come; nothing has changed then.
  Status accept(TokenId id);
  bool complete() const { return matcher_.accepts(set_); }  // the text so far may end
  // Whether, besides ending, nothing can follow.
  bool finished() const;

 private:
  const std::vector<uint64_t>& allowed();

  std::shared_ptr<const TokenTrie> trie_;
  Matcher matcher_;
  Matcher::Set set_;
  bool ended_ = false;
  std::unordered_map<Matcher::Set, std::vector<uint64_t>> masks_;
};

}  // namespace venturi::grammar
