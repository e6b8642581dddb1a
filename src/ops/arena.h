// Memory for activations. An arena hands out offsets; the bytes, if there are any, are its owner's.
//
// Without a plan a block goes to the lowest hole (first fit), as blocks come. With a plan, which has
// the offsets of a whole step worked out beforehand from lifetimes that shape mode recorded
// (placement.h), the i-th block of a step goes to the i-th offset. A step whose blocks come and go
// as in the plan, none larger, stays within the plan's peak. Whatever comes otherwise (too large, or
// in the way of a block that is still held) goes by first fit: a plan can be missed, never wrong.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "ops/placement.h"

namespace venturi {

// Blocks in order of allocation.
struct ArenaPlan {
  std::vector<Block> blocks;
  std::vector<uint64_t> offsets;
  uint64_t peak = 0;

  static ArenaPlan of(std::vector<Block> trace);
  // A plan for all of several kinds of step (a long prompt, a batch of single tokens): that of the
  // first, or, where they all come and go in the same order, that of blocks each as large as its
  // largest, or none (first fit), whichever lets no kind reach as high.
  static ArenaPlan of_all(std::span<const std::vector<Block>> traces);
};

class Arena {
 public:
  uint64_t allocate(uint64_t bytes);  // offset, a multiple of kBlockAlign
  void free(uint64_t offset);
  uint64_t peak() const { return peak_; }  // the highest byte handed out so far

  // Outlives the arena; null: first fit. For the next step on.
  void set_plan(const ArenaPlan* plan) { plan_ = plan; }
  void begin_step() { next_ = 0; }
  // Blocks that did not go where the plan says, of all so far.
  int64_t missed() const { return missed_; }

  // What was handed out so far, in order; what is still held ends now. Times count events.
  std::vector<Block> trace() const;
  void record(bool on) { recording_ = on; }

 private:
  struct Held {
    uint64_t bytes = 0;
    size_t index = 0;  // in recorded_
  };
  bool is_free(uint64_t offset, uint64_t bytes) const;
  uint64_t first_fit(uint64_t bytes) const;

  std::map<uint64_t, Held> live_;  // by offset
  uint64_t peak_ = 0;
  const ArenaPlan* plan_ = nullptr;
  size_t next_ = 0;
  int64_t missed_ = 0;
  bool recording_ = false;
  std::vector<Block> recorded_;
  int64_t now_ = 0;
};

// The peak of an arena with this plan (an empty one: first fit) over a step with these blocks.
uint64_t replay(const ArenaPlan& plan, std::span<const Block> trace);

}  // namespace venturi
