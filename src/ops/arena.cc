#include "ops/arena.h"

#include <algorithm>

namespace venturi {

namespace {

// Of the search for a placement, which is repeated for each context that is tried.
constexpr int64_t kSearchNodes = 20'000;

// Whether the blocks come and go in the same order; sizes aside.
bool same_order(std::span<const Block> a, std::span<const Block> b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const Block& x, const Block& y) {
    return x.begin == y.begin && x.end == y.end;
  });
}

}  // namespace

ArenaPlan ArenaPlan::of(std::vector<Block> trace) {
  Placement placement = place_exact(trace, kSearchNodes).placement;
  return {std::move(trace), std::move(placement.offsets), placement.peak};
}

ArenaPlan ArenaPlan::of_all(std::span<const std::vector<Block>> traces) {
  std::vector<ArenaPlan> candidates(1);
  if (!traces.empty()) candidates.push_back(of(traces[0]));
  std::vector<Block> largest = candidates.back().blocks;
  bool same = traces.size() > 1;
  for (const std::vector<Block>& trace : traces) {
    same = same && same_order(largest, trace);
    for (size_t i = 0; same && i < trace.size(); ++i)
      largest[i].bytes = std::max(largest[i].bytes, trace[i].bytes);
  }
  if (same) candidates.push_back(of(std::move(largest)));
  for (ArenaPlan& plan : candidates) {
    uint64_t peak = 0;
    for (const std::vector<Block>& trace : traces) peak = std::max(peak, replay(plan, trace));
    plan.peak = peak;
  }
  return *std::min_element(candidates.begin(), candidates.end(),
                           [](const ArenaPlan& a, const ArenaPlan& b) { return a.peak < b.peak; });
}

uint64_t replay(const ArenaPlan& plan, std::span<const Block> trace) {
  Arena arena;
  arena.set_plan(&plan);
  arena.begin_step();
  std::vector<std::pair<int64_t, size_t>> ends;  // time, block
  for (size_t i = 0; i < trace.size(); ++i) ends.emplace_back(trace[i].end, i);
  std::sort(ends.begin(), ends.end());
  std::vector<uint64_t> offsets(trace.size());
  auto next = ends.begin();
  for (size_t i = 0; i < trace.size(); ++i) {
    for (; next != ends.end() && next->first <= trace[i].begin; ++next) arena.free(offsets[next->second]);
    offsets[i] = arena.allocate(trace[i].bytes);
  }
  return arena.peak();
}

uint64_t Arena::allocate(uint64_t bytes) {
  const uint64_t size = aligned_block_bytes(bytes);
  uint64_t at = 0;
  const bool planned = plan_ && next_ < plan_->blocks.size() && size <= plan_->blocks[next_].bytes &&
                       is_free(plan_->offsets[next_], size);
  if (planned) {
    at = plan_->offsets[next_];
  } else {
    at = first_fit(size);
    if (plan_ && !plan_->blocks.empty()) ++missed_;
  }
  ++next_;
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

bool Arena::is_free(uint64_t offset, uint64_t bytes) const {
  const auto after = live_.lower_bound(offset);
  if (after != live_.end() && after->first < offset + bytes) return false;
  if (after == live_.begin()) return true;
  const auto before = std::prev(after);
  return before->first + before->second.bytes <= offset;
}

uint64_t Arena::first_fit(uint64_t bytes) const {
  uint64_t at = 0;
  for (const auto& [offset, held] : live_) {
    if (offset - at >= bytes) break;
    at = offset + held.bytes;
  }
  return at;
}

}  // namespace venturi
