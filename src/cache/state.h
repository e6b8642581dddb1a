// Sequence state: what a model remembers of the tokens before.
//
// An architecture declares slots: *paged* (keys and values in pages of kPageTokens tokens) or
// *recurrent* (a fixed number of f32 values). A StatePool draws the memory of all slots from the
// ledger once; sequences take pages as they grow and give them back when they end or are cut. Where
// tokens see a window only, they also give back the pages that no later token sees.
// Where memory is for a part of the pages, full ones go to a file, each sequence's oldest first,
// and are read back beside attention, a split of keys at a time (decision 011); what is in windows
// stays.
// Or the sequences share fewer pages than all of them could fill: pages count who holds them, and a
// prefix cache (prefix_cache.h) may keep those of sequences that have ended (decision 012).
// Threads: one at a time per pool.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/buffer.h"
#include "base/disk.h"
#include "base/ledger.h"
#include "base/scratch_file.h"
#include "cache/page_ring.h"
#include "cache/touch_ahead.h"
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
  static SlotSpec paged_latent(int k_dim, int v_dim) {
    return {Kind::kPaged, 1, k_dim, v_dim, 0, true, 0};
  }
  static SlotSpec recurrent(int64_t n_values) {
    return {Kind::kRecurrent, 0, 0, 0, n_values, false, 0};
  }
  uint64_t page_bytes() const {
    if (kind != Kind::kPaged) return 0;
    return 2ull * n_kv_heads *
           (key_page_elems(k_dim) + (values_in_keys ? 0 : value_page_elems(v_dim)));
  }
};

// Sequences of up to `tokens` tokens, which grow by at most `rows` tokens a step.
struct StateShape {
  int64_t tokens = 0;
  int sequences = 1;
  int64_t rows = 0;  // 0: tokens
  // Of the slots without a window, over all sequences, who share them; 0: as many as all may fill.
  int64_t blocks = 0;
};

// What of a state is in memory.
struct StatePlan {
  StateShape shape;
  // Blocks of the slots without a window, over all sequences: what there may be, and what has
  // memory.
  int64_t blocks = 0, resident_blocks = 0;
  int ring_cells = 0;       // each holds a slot's part of a split
  uint64_t bytes = 0;       // of memory
  uint64_t file_bytes = 0;  // of the file, at most
  bool spills() const { return ring_cells > 0; }
  bool shared() const { return shape.blocks > 0 && blocks > 0; }
};

// All in memory where that takes no more than `limit`; else as much as does. `bytes` is above the
// limit where not even the least fits: what one step writes, and two cells.
StatePlan plan_state(const std::vector<SlotSpec>& slots, const StateShape& shape,
                     uint64_t limit = UINT64_MAX);

struct StateCounters {
  uint64_t read_bytes = 0, written_bytes = 0;  // of the file
  uint64_t stalls = 0;                         // waits for what was not yet read
  double stall_seconds = 0;
};
inline StateCounters operator-(const StateCounters& a, const StateCounters& b) {
  return {.read_bytes = a.read_bytes - b.read_bytes,
          .written_bytes = a.written_bytes - b.written_bytes,
          .stalls = a.stalls - b.stalls,
          .stall_seconds = a.stall_seconds - b.stall_seconds};
}

class SequenceState;

constexpr int64_t kBlocksPerSplit = kSplitTokens / kPageTokens;

class StatePool : public std::enable_shared_from_this<StatePool> {
 public:
  // A plan that spills makes its file in `place` (ScratchFile). Code::kOutOfBudget when that disk
  // has not the room.
  static Result<std::shared_ptr<StatePool>> create(Ledger& ledger, std::vector<SlotSpec> slots,
                                                   const StatePlan& plan,
                                                   const std::string& place = {},
                                                   const DiskOptions& disk = {});
  ~StatePool();
  // Code::kOutOfBudget when as many sequences as were planned for are alive.
  Result<std::unique_ptr<SequenceState>> new_sequence();

  const std::vector<SlotSpec>& slots() const { return slots_; }
  const StatePlan& plan() const { return plan_; }
  int64_t tokens_per_sequence() const { return plan_.shape.tokens; }
  // The sequences of the step that comes, all prepared: what it will read back is read ahead.
  void expect(std::span<SequenceState* const> sequences);
  StateCounters counters() const;
  // From now on memory is asked for before steps come to it (touch_ahead.h).
  void touch_ahead();
  const ScratchFile* file() const { return file_ ? &*file_ : nullptr; }  // null: nothing spills
  const PageRing* ring() const { return ring_.get(); }

  // ---- shared pages, of the slots without a window ----
  // Whether a sequence is nothing but shared pages.
  bool shares_prefixes() const;
  int64_t shared_pages() const { return static_cast<int64_t>(holders_.size()); }
  // Free, or held by the cache alone.
  int64_t pages_to_have() const;
  int64_t free_pages() const { return static_cast<int64_t>(groups_[shared_group_].free_pages.size()); }
  std::optional<int32_t> take_page();  // for one holder; none where pages_to_have() is 0
  void hold(int32_t page);
  void let_go(int32_t page);
  // The cache is one more holder.
  void keep(int32_t page);
  void forget(int32_t page);
  bool held_by_cache_alone(int32_t page) const { return kept_[page] && holders_[page] == 1; }
  void copy_page(int32_t from, int32_t to);
  std::span<uint8_t> page(size_t slot, int32_t page) {
    return {memory_[slot].data() + page * strides_[slot], strides_[slot]};
  }
  // Makes the cache forget a page that it alone holds; false if it could not.
  void set_reclaim(std::function<bool()> reclaim) { reclaim_ = std::move(reclaim); }

 private:
  friend class SequenceState;
  StatePool() = default;

  // Paged slots of one window: a sequence has the same blocks of all of them, under the same
  // numbers.
  struct Group {
    int64_t window = 0;
    int64_t blocks = 0;  // that a sequence holds at most
    std::vector<int32_t> free_pages;
  };

  // A page of a group, which has one.
  int32_t take_free(size_t group);
  int64_t stride(int slot) const { return static_cast<int64_t>(strides_[slot]); }
  // Of blocks [begin, end) of a slot in a sequence.
  PageRange range(int slot, int32_t sequence, int64_t begin, int64_t end) const;
  Status make_room(Group& group, int64_t pages);
  Status spill(SequenceState& sequence, int64_t blocks);

  std::vector<SlotSpec> slots_;
  StatePlan plan_;
  std::vector<Group> groups_;
  std::vector<int> group_of_;      // [slot]; -1: recurrent
  std::vector<uint64_t> strides_;  // [slot] bytes from page to page
  std::vector<Buffer> memory_;     // [slot]
  std::vector<int32_t> free_sequences_;
  std::vector<SequenceState*> sequences_;  // those alive, by number

  // Where pages spill. In the file: slot by slot, sequence by sequence, block by block.
  std::optional<ScratchFile> file_;
  std::unique_ptr<DiskReader> disk_;
  std::unique_ptr<PageRing> ring_;
  std::vector<uint64_t> file_begin_;  // [slot]
  uint64_t written_bytes_ = 0;

  // Where pages are shared: by page, who holds it, and whether the cache does.
  int shared_group_ = -1;
  std::vector<int32_t> holders_;
  std::vector<bool> kept_;
  int64_t idle_pages_ = 0;  // the cache alone holds
  std::function<bool()> reclaim_;

  std::optional<TouchAhead> toucher_;  // last: its thread ends before the memory goes
};

class SequenceState {
 public:
  ~SequenceState();
  SequenceState(const SequenceState&) = delete;
  SequenceState& operator=(const SequenceState&) = delete;

  int64_t length() const { return length_; }
  // Takes what room a sequence of `tokens` tokens needs before its steps are prepared.
  // Code::kOutOfBudget naming the context size when the sequence may not grow so far, or when
  // shared pages are short; then nothing was taken.
  Status reserve(int64_t tokens);
  // Before a step writes positions [position, position + rows): gives back pages that no token from
  // `position` on sees, and takes those that are written to, for which full pages of this sequence
  // or another may go to the file. A position before length() cuts the sequence. Code::kOutOfBudget
  // as reserve(), and for a step of more rows than planned; Code::kInvalidArgument for a position
  // before what a window kept; Code::kIo when the file takes no more.
  Status prepare(int64_t position, int64_t rows);
  void set_length(int64_t tokens);  // after a step has written its rows
  // Forgets positions from `tokens` on. False if a recurrent slot, or a window that has moved on,
  // makes that impossible (the state is then unchanged). Always possible: tokens == 0, and what the
  // last prepared step wrote where nothing is recurrent.
  bool truncate(int64_t tokens);
  // Whether every position is still there, in windowed slots too.
  bool whole() const;

  // Of a pool that shares prefixes: an empty sequence begins with `tokens` tokens in pages that are
  // held for it. And the page of a block.
  void adopt(std::vector<int32_t> pages, int64_t tokens);
  int32_t shared_page(int64_t block) const { return tables_[pool_->shared_group_].pages[block]; }

  // Of a block in memory.
  uint16_t* key_page(int slot, int64_t block, int head) const;
  uint16_t* value_page(int slot, int64_t block, int head) const;  // not of a latent slot
  // Blocks [0, spilled(slot)) are in the file. Those of one split, page by page as
  // page_stride(slot) says, stay in memory from fetch() to release(), for at most as many splits at
  // once as the ring has cells.
  int64_t spilled(int slot) const;
  bool may_spill(int slot) const;
  int fetches() const { return pool_->ring_->cells(); }  // that there may be at once
  Result<const uint8_t*> fetch(int slot, int64_t split);
  void release();  // of what was fetched first
  int64_t page_stride(int slot) const { return pool_->stride(slot); }
  float* recurrent(int slot) const;

 private:
  friend class StatePool;
  SequenceState(std::shared_ptr<StatePool> pool, int32_t index)
      : pool_(std::move(pool)), index_(index) {}

  // Blocks [first, end()) of a group and the pages they lie in. Those before were given back, or,
  // without a window, are in the file.
  struct Table {
    int64_t first = 0;
    std::vector<int32_t> pages;
    int64_t end() const { return first + static_cast<int64_t>(pages.size()); }
  };
  void cut(size_t group, int64_t end_block);
  Status grow(size_t group, int64_t end_block);
  Status own(size_t group, int64_t block);
  Status bring_back(size_t group, int64_t block);
  PageRange spilled_range(int slot, int64_t split) const;
  bool keeps(int64_t position) const;

  std::shared_ptr<StatePool> pool_;
  int32_t index_;
  int64_t length_ = 0;
  std::vector<Table> tables_;  // [group]
};

}  // namespace venturi
