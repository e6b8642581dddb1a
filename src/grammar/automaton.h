// A grammar compiled to a pushdown automaton over bytes.
//
// A rule is a non-deterministic automaton whose edges are byte ranges, epsilons, or calls of other
// rules. Code points become ranges of UTF-8 bytes, so a token may end inside a character. A call
// whose return is the end of its rule pushes nothing, so right recursion (lists) takes no depth.
//
// compile() refuses what could loop or never end: rules that recurse on their left, rules that
// cannot produce a text, empty classes, and more than kMaxStates states. Threads: immutable.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "grammar/grammar.h"

namespace venturi::grammar {

struct Edge {
  enum class Kind : uint8_t { kByte, kEpsilon, kCall } kind;
  uint8_t low = 0, high = 0;  // kByte, both included
  int32_t target = 0;         // kCall: where the rule begins
  int32_t back = -1;          // kCall: the state after it; -1: that of the caller's own return
};

class Automaton {
 public:
  static constexpr int kMaxStates = 1 << 18;

  // Code::kInvalidArgument, naming the rule.
  static Result<std::shared_ptr<const Automaton>> compile(const Grammar& grammar);

  int32_t start() const { return start_; }
  int32_t n_states() const { return static_cast<int32_t>(first_edge_.size()) - 1; }
  bool ends_rule(int32_t state) const { return ends_rule_[state]; }
  size_t bytes() const {  // that it takes
    return edges_.capacity() * sizeof(Edge) + first_edge_.capacity() * sizeof(int32_t) + ends_rule_.capacity();
  }
  const Edge* begin(int32_t state) const { return edges_.data() + first_edge_[state]; }
  const Edge* end(int32_t state) const { return edges_.data() + first_edge_[state + 1]; }

 private:
  friend class Compiler;
  int32_t start_ = 0;
  std::vector<Edge> edges_;          // by state
  std::vector<int32_t> first_edge_;  // [n_states + 1]
  std::vector<char> ends_rule_;      // [n_states]
};

}  // namespace venturi::grammar
