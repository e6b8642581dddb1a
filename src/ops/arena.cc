#include "ops/arena.h"

#include <algorithm>

namespace venturi {

uint64_t Arena::allocate(uint64_t bytes) {
  const uint64_t size = aligned_block_bytes(bytes);
  uint64_t at = 0;
  for (const auto& [offset, held] : live_) {
    if (offset - at >= size) break;
    at = offset + held.bytes;
  }
  live_[at] = {size, recorded_.size()};
  peak_ = std::max(peak_, at + size);
  if (recording_) recorded_.push_back({size, now_++, -1});
  return at;
}

void Arena::free(uint64_t offset) {
  const auto found = live_.find(offset);
  if (recording_) recorded_[found->second.index].end = now_++;
  live_.erase(found);
}

std::vector<Block> Arena::trace() const {
  std::vector<Block> blocks = recorded_;
  for (Block& b : blocks)
    if (b.end < 0) b.end = now_;
  return blocks;
}

}  // namespace venturi
