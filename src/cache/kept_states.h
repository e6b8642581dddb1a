// States of sequences that have ended, each whole, for who begins with all of their tokens.
//
// For models whose states do not share pages (StatePool::shares_prefixes): a recurrent state is one
// value after all tokens, and a window has given pages back, so that there is no state for less
// than all. A state is taken, not copied: who goes on with it may bring it back, longer. Kept are
// sequences that nobody else needs: no memory is drawn for them, and the one that was brought
// longest ago goes first.
//
// Threads: one at a time, that of the pool.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <span>
#include <vector>

#include "cache/state.h"

namespace venturi {

class KeptStates {
 public:
  // The state after `tokens`, of which it has as many; `kind` is what computed it
  // (PrefixCache::Cursor). An empty one goes.
  void put(std::unique_ptr<SequenceState> state, std::span<const int32_t> tokens, uint64_t kind);
  // The longest of at most `most` tokens, all of which `tokens` begins with; null: none.
  std::unique_ptr<SequenceState> take(std::span<const int32_t> tokens, int64_t most, uint64_t kind);
  bool drop_oldest();  // false: there is none
  int64_t size() const { return static_cast<int64_t>(kept_.size()); }

 private:
  struct Kept {
    std::vector<int32_t> tokens;
    uint64_t kind = 0;
    std::unique_ptr<SequenceState> state;
  };
  std::list<Kept> kept_;  // the oldest first
};

}  // namespace venturi
