// Memory for activations: an arena hands out offsets, the lowest hole to each block as it comes (first
// fit); the bytes, if there are any, are its owner's. It can record how long each block was held, for
// placement.h to say how much better foresight would have done.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "ops/placement.h"

namespace venturi {

class Arena {
 public:
  uint64_t allocate(uint64_t bytes);  // offset, a multiple of kBlockAlign
  void free(uint64_t offset);
  uint64_t peak() const { return peak_; }  // the highest byte handed out so far

  void record(bool on) { recording_ = on; }
  // What was handed out while recording, in order; what is still held ends now. Times count events.
  std::vector<Block> trace() const;
  int32_t n_recorded() const { return static_cast<int32_t>(recorded_.size()); }
  int64_t now() const { return now_; }

 private:
  struct Held {
    uint64_t bytes = 0;
    size_t index = 0;  // in recorded_
  };

  std::map<uint64_t, Held> live_;  // by offset
  uint64_t peak_ = 0;
  bool recording_ = false;
  std::vector<Block> recorded_;
  int64_t now_ = 0;
};

}  // namespace venturi
