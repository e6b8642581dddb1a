// Runs an automaton over bytes: which may come next, and whether the text may end.
//
// All ways to read the text so far are one Set of (state, stack) pairs; stacks share their tails.
// Sets and the steps between them are kept as they are found, so a text of the usual kind costs a
// look-up a byte. Limits hold whatever the grammar: pairs whose stack is deeper than max_depth, and
// pairs past max_pairs of a set, are dropped (what is then accepted is still in the grammar).
// Threads: one at a time per matcher.
#pragma once

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "grammar/automaton.h"

namespace venturi::grammar {

struct MatcherLimits {
  int max_depth = 256;
  int max_pairs = 2048;
  // Kept from one mask to the next: sets (1 kB each) and pairs (8 bytes) in all. Within one mask four
  // times as many; bytes that would lead further count as refused.
  size_t max_sets = 8192, max_kept_pairs = 1 << 20;
};

class Matcher {
 public:
  using Set = int32_t;
  static constexpr Set kDead = 0;

  explicit Matcher(std::shared_ptr<const Automaton> automaton, MatcherLimits limits = {});

  Set start() const { return start_; }
  Set next(Set set, uint8_t byte) {
    const Set known = steps_[static_cast<size_t>(set) * 256 + byte];
    return known >= 0 ? known : step(set, byte);
  }
  bool accepts(Set set) const { return sets_[set].accepts; }
  bool can_only_end(Set set) const { return sets_[set].pairs.empty(); }
  size_t n_sets() const { return sets_.size(); }
  bool full() const { return sets_.size() > limits_.max_sets || kept_pairs_ > limits_.max_kept_pairs; }
  // Forgets all sets but one, which gets a new number: call when full().
  Set collect(Set keep);

 private:
  struct Pair {
    int32_t state, stack;
    auto operator<=>(const Pair&) const = default;
  };
  struct Frame {
    int32_t back, below, depth;
  };
  struct SetInfo {
    std::vector<Pair> pairs;  // closed, only states with byte edges
    bool accepts = false;
  };
  struct PairsHash {
    size_t operator()(const std::vector<Pair>& pairs) const;
  };

  void clear();
  int32_t push(int32_t back, int32_t below);
  Set step(Set set, uint8_t byte);
  Set intern(std::vector<Pair> seeds);
  Set number(std::vector<Pair> pairs, bool accepts);

  std::shared_ptr<const Automaton> automaton_;
  MatcherLimits limits_;
  Set start_ = 0;
  std::vector<Frame> frames_;  // 0: the empty stack
  std::unordered_map<uint64_t, int32_t> frame_ids_;
  size_t kept_pairs_ = 0;
  std::vector<SetInfo> sets_;  // 0: dead
  std::vector<Set> steps_;     // [n_sets][256], -1: not known yet
  std::unordered_map<std::vector<Pair>, Set, PairsHash> set_ids_[2];  // by accepts
};

}  // namespace venturi::grammar
