// Sequence state: what a model remembers of the tokens before.
//
// An architecture declares slots: *paged* (keys and values in pages of kPageTokens tokens) or
// *recurrent* (a fixed number of f32 values). A StatePool draws the memory of all slots from the
// ledger once; sequences take pages as they grow and give them back when they end or are cut. Where
// tokens see a window only, they also give back the pages that no later token sees.
// Threads: one at a time per pool.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/buffer.h"
#include "base/ledger.h"
#include "kernels/attention/attention.h"

namespace venturi {

struct SlotSpec {
  enum class Kind { kPaged, kRecurrent } kind = Kind::kPaged;
  // paged
  int n_kv_heads = 0, k_dim = 0, v_dim = 0;
  // recurrent
  int64_t n_values = 0;
  // paged: a value is the last v_dim elements of its key (a latent), and is not stored again
  bool values_in_keys = false;
  // paged: a token sees the last `window` tokens, itself included; 0: all
  int64_t window = 0;

  static SlotSpec paged(int n_kv_heads, int k_dim, int v_dim, int64_t window = 0) {
    return {Kind::kPaged, n_kv_heads, k_dim, v_dim, 0, false, window};
  }
  static SlotSpec paged_latent(int k_dim, int v_dim) { return {Kind::kPaged, 1, k_dim, v_dim, 0, true, 0}; }
  static SlotSpec recurrent(int64_t n_values) { return {Kind::kRecurrent, 0, 0, 0, n_values, false, 0}; }
  uint64_t page_bytes() const {
    if (kind != Kind::kPaged) return 0;
    return 2ull * n_kv_heads * (key_page_elems(k_dim) + (values_in_keys ? 0 : value_page_elems(v_dim)));
  }
};

// Sequences of up to `tokens` tokens, which grow by at most `rows` tokens a step.
struct StateShape {
  int64_t tokens = 0;
  int sequences = 1;
  int64_t rows = 0;  // 0: tokens
};

// Bytes that the state of a pool of that shape takes.
uint64_t state_bytes(const std::vector<SlotSpec>& slots, const StateShape& shape);

class SequenceState;

class StatePool : public std::enable_shared_from_this<StatePool> {
 public:
  static Result<std::shared_ptr<StatePool>> create(Ledger& ledger, std::vector<SlotSpec> slots, const StateShape& shape);
  // Code::kOutOfBudget when as many sequences as were planned for are alive.
  Result<std::unique_ptr<SequenceState>> new_sequence();

  const std::vector<SlotSpec>& slots() const { return slots_; }
  int64_t tokens_per_sequence() const { return shape_.tokens; }

 private:
  friend class SequenceState;
  StatePool() = default;

  // Paged slots of one window: a sequence has the same blocks of all of them, under the same numbers.
  struct Group {
    int64_t window = 0;
    int64_t blocks = 0;  // that a sequence holds at most
    std::vector<int32_t> free_pages;
  };

  std::vector<SlotSpec> slots_;
  StateShape shape_;
  std::vector<Group> groups_;
  std::vector<int> group_of_;   // [slot]; -1: recurrent
  std::vector<Buffer> memory_;  // [slot]
  std::vector<int32_t> free_sequences_;
};

class SequenceState {
 public:
  ~SequenceState();
  SequenceState(const SequenceState&) = delete;
  SequenceState& operator=(const SequenceState&) = delete;

  int64_t length() const { return length_; }
  // Takes what room a sequence of `tokens` tokens needs before its steps are prepared. Code::kOutOfBudget
  // naming the context size when the sequence may not grow so far.
  Status reserve(int64_t tokens);
  // Before a step writes positions [position, position + rows): gives back pages that no token from
  // `position` on sees, and takes those that are written to. Code::kOutOfBudget as reserve(), and for a
  // step of more rows than planned; Code::kInvalidArgument for a position before what a window kept.
  Status prepare(int64_t position, int64_t rows);
  void set_length(int64_t tokens);  // after a step has written its rows
  // Forgets positions from `tokens` on. False if a recurrent slot, or a window that has moved on, makes
  // that impossible (the state is then unchanged). Always possible: tokens == 0, and what the last
  // prepared step wrote where nothing is recurrent.
  bool truncate(int64_t tokens);
  // Whether every position is still there, in windowed slots too.
  bool whole() const;

  uint16_t* key_page(int slot, int64_t block, int head) const;
  uint16_t* value_page(int slot, int64_t block, int head) const;  // not of a latent slot
  float* recurrent(int slot) const;

 private:
  friend class StatePool;
  SequenceState(std::shared_ptr<StatePool> pool, int32_t index) : pool_(std::move(pool)), index_(index) {}

  // Blocks [first, end()) of a group and the pages they lie in.
  struct Table {
    int64_t first = 0;
    std::vector<int32_t> pages;
    int64_t end() const { return first + static_cast<int64_t>(pages.size()); }
  };
  void cut(size_t group, int64_t end_block);
  Status grow(size_t group, int64_t end_block);
  bool keeps(int64_t position) const;

  std::shared_ptr<StatePool> pool_;
  int32_t index_;
  int64_t length_ = 0;
  std::vector<Table> tables_;  // [group]
};

}  // namespace venturi
