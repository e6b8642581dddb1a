// Sequence state: what a model remembers of the tokens before.
//
// An architecture declares slots: *paged* (keys and values in pages of kPageTokens tokens) or
// *recurrent* (a fixed number of f32 values). A StatePool draws the memory of all slots from the
// ledger once; sequences take pages as they grow and give them back when they end or are cut.
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

  static SlotSpec paged(int n_kv_heads, int k_dim, int v_dim) {
    return {Kind::kPaged, n_kv_heads, k_dim, v_dim, 0, false};
  }
  static SlotSpec paged_latent(int k_dim, int v_dim) { return {Kind::kPaged, 1, k_dim, v_dim, 0, true}; }
  static SlotSpec recurrent(int64_t n_values) { return {Kind::kRecurrent, 0, 0, 0, n_values, false}; }
  uint64_t page_bytes() const {
    if (kind != Kind::kPaged) return 0;
    return 2ull * n_kv_heads * (key_page_elems(k_dim) + (values_in_keys ? 0 : value_page_elems(v_dim)));
  }
};

// Bytes that `tokens` tokens in each of `sequences` sequences take.
uint64_t state_bytes(const std::vector<SlotSpec>& slots, int64_t tokens, int sequences);

class SequenceState;

class StatePool : public std::enable_shared_from_this<StatePool> {
 public:
  // Room for `sequences` sequences of up to `tokens` tokens each.
  static Result<std::shared_ptr<StatePool>> create(Ledger& ledger, std::vector<SlotSpec> slots, int64_t tokens,
                                                   int sequences);
  // Code::kOutOfBudget when as many sequences as were planned for are alive.
  Result<std::unique_ptr<SequenceState>> new_sequence();

  const std::vector<SlotSpec>& slots() const { return slots_; }
  int64_t tokens_per_sequence() const { return tokens_; }

 private:
  friend class SequenceState;
  StatePool() = default;

  std::vector<SlotSpec> slots_;
  int64_t tokens_ = 0;
  int64_t n_pages_ = 0;              // per paged slot
  std::vector<Buffer> memory_;       // [slot]
  std::vector<int32_t> free_pages_;  // page numbers are common to all paged slots
  std::vector<int32_t> free_sequences_;
};

class SequenceState {
 public:
  ~SequenceState();
  SequenceState(const SequenceState&) = delete;
  SequenceState& operator=(const SequenceState&) = delete;

  int64_t length() const { return length_; }
  // Takes pages so that positions below `tokens` have a place. Code::kOutOfBudget naming the
  // context size when the sequence may not grow so far.
  Status reserve(int64_t tokens);
  void set_length(int64_t tokens);  // after a step has written its rows
  // Forgets positions from `tokens` on. False if a recurrent slot makes that impossible (the state
  // is then unchanged); tokens == 0 is always possible.
  bool truncate(int64_t tokens);

  uint16_t* key_page(int slot, int64_t block, int head) const;
  uint16_t* value_page(int slot, int64_t block, int head) const;  // not of a latent slot
  float* recurrent(int slot) const;

 private:
  friend class StatePool;
  SequenceState(std::shared_ptr<StatePool> pool, int32_t index) : pool_(std::move(pool)), index_(index) {}

  std::shared_ptr<StatePool> pool_;
  int32_t index_;
  int64_t length_ = 0;
  std::vector<int32_t> pages_;
};

}  // namespace venturi
