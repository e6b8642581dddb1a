#include "ops/placement.h"

#include <algorithm>
#include <array>
#include <map>
#include <numeric>

namespace venturi {

namespace {

// The lowest offset at which `bytes` fit between the blocks of `taken`, (offset, bytes) unsorted.
uint64_t lowest_hole(std::vector<std::pair<uint64_t, uint64_t>>& taken, uint64_t bytes) {
  std::sort(taken.begin(), taken.end());
  uint64_t at = 0;
  for (const auto& [offset, size] : taken) {
    if (offset >= at && offset - at >= bytes) break;
    at = std::max(at, offset + size);
  }
  return at;
}

// Blocks in `order`; each at the lowest hole among those placed before it that it lives with, or,
// if `now_only`, that are live when it begins.
Placement place_in_order(std::span<const Block> blocks, std::span<const size_t> order,
                         bool now_only) {
  Placement p{.offsets = std::vector<uint64_t>(blocks.size())};
  std::vector<size_t> placed;
  std::vector<std::pair<uint64_t, uint64_t>> taken;
  for (const size_t i : order) {
    taken.clear();
    for (const size_t j : placed)
      if (now_only ? blocks[j].end > blocks[i].begin : blocks[j].live_with(blocks[i]))
        taken.emplace_back(p.offsets[j], blocks[j].bytes);
    p.offsets[i] = lowest_hole(taken, blocks[i].bytes);
    p.peak = std::max(p.peak, p.offsets[i] + blocks[i].bytes);
    if (now_only)  // what is over cannot be in the way again
      std::erase_if(placed, [&](size_t j) { return blocks[j].end <= blocks[i].begin; });
    placed.push_back(i);
  }
  return p;
}

template <typename Before>
std::vector<size_t> sorted_order(size_t n, Before before) {
  std::vector<size_t> order(n);
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), before);
  return order;
}

// Branch and bound over one run of blocks.
//
// Pushing every block of a placement down until it rests on the floor or on a block it lives with
// raises no peak, so some optimal placement is such a one, and adding its blocks in order of offset
// puts each exactly on the highest so far among those it lives with. The search therefore only
// chooses who comes next, with offsets that never fall. What is left at time t has to lie above
// both what is placed at t and the offset reached, which gives the bound.
class Search {
 public:
  Search(std::span<const Block> blocks, Placement best, int64_t max_nodes)
      : blocks_(blocks), best_(std::move(best)), floor_(live_peak(blocks)), max_nodes_(max_nodes) {
    // The live set grows only where a block begins: those times are enough.
    std::vector<int64_t> times;
    for (const Block& b : blocks) times.push_back(b.begin);
    std::sort(times.begin(), times.end());
    times.erase(std::unique(times.begin(), times.end()), times.end());
    top_.assign(times.size(), 0);
    left_.assign(times.size(), 0);
    for (const Block& b : blocks) {
      const auto at = [&](int64_t t) {
        return std::lower_bound(times.begin(), times.end(), t) - times.begin();
      };
      ranges_.emplace_back(at(b.begin), at(b.end));
      for (int64_t t = ranges_.back().first; t < ranges_.back().second; ++t) left_[t] += b.bytes;
    }
    by_size_ = sorted_order(blocks.size(),
                            [&](size_t a, size_t b) { return blocks[a].bytes > blocks[b].bytes; });
    offsets_.assign(blocks.size(), 0);
    placed_.assign(blocks.size(), 0);
  }

  ExactPlacement run() {
    extend(0, 0, 0);
    const bool done = best_.peak == floor_ || nodes_ < max_nodes_;
    return {best_, done ? best_.peak : floor_, done, nodes_};
  }

 private:
  void extend(size_t n_placed, uint64_t level, uint64_t peak) {
    if (best_.peak == floor_ || ++nodes_ >= max_nodes_) return;
    if (n_placed == blocks_.size()) {
      best_ = {offsets_, peak};  // only better ones come here
      return;
    }
    for (size_t t = 0; t < top_.size(); ++t)
      if (left_[t] > 0 && std::max(top_[t], level) + left_[t] >= best_.peak) return;
    for (size_t k = 0; k < by_size_.size(); ++k) {
      const size_t i = by_size_[k];
      if (placed_[i] || repeats_a_sibling(k)) continue;
      const auto [from, to] = ranges_[i];
      const uint64_t at = *std::max_element(top_.begin() + from, top_.begin() + to);
      const uint64_t end = at + blocks_[i].bytes;
      if (at < level || end >= best_.peak) continue;
      std::vector<uint64_t> saved(top_.begin() + from, top_.begin() + to);
      for (int64_t t = from; t < to; ++t) {
        top_[t] = end;
        left_[t] -= blocks_[i].bytes;
      }
      placed_[i] = 1;
      offsets_[i] = at;
      extend(n_placed + 1, at, std::max(peak, end));
      placed_[i] = 0;
      for (int64_t t = from; t < to; ++t) {
        top_[t] = saved[t - from];
        left_[t] += blocks_[i].bytes;
      }
      if (best_.peak == floor_ || nodes_ >= max_nodes_) return;
    }
  }

  // Of equal blocks the first one left stands for all.
  bool repeats_a_sibling(size_t k) const {
    const size_t i = by_size_[k];
    for (size_t j = k; j-- > 0 && blocks_[by_size_[j]].bytes == blocks_[i].bytes;)
      if (!placed_[by_size_[j]] && ranges_[by_size_[j]] == ranges_[i]) return true;
    return false;
  }

  std::span<const Block> blocks_;
  Placement best_;
  const uint64_t floor_;
  const int64_t max_nodes_;
  int64_t nodes_ = 0;
  std::vector<uint64_t> top_, left_;  // by time: highest byte placed; bytes still to be placed
  std::vector<std::pair<int64_t, int64_t>> ranges_;  // of each block, in indices of times
  std::vector<size_t> by_size_;
  std::vector<uint64_t> offsets_;
  std::vector<char> placed_;
};

Placement better(Placement a, Placement b) { return b.peak < a.peak ? b : a; }

ExactPlacement search(std::span<const Block> blocks, int64_t max_nodes) {
  Placement start = better(place_greedy(blocks), place_first_fit(blocks));
  return Search(blocks, std::move(start), max_nodes).run();
}

// Indices of the blocks, spine left out, in runs between which nothing but the spine is live.
std::vector<std::vector<size_t>> runs_around(std::span<const Block> blocks, size_t spine) {
  const auto order =
      sorted_order(blocks.size(), [&](size_t a, size_t b) { return blocks[a].begin < blocks[b].begin; });
  std::vector<std::vector<size_t>> runs;
  int64_t end = INT64_MIN;
  for (const size_t i : order) {
    if (i == spine) continue;
    if (runs.empty() || blocks[i].begin >= end) runs.emplace_back();
    runs.back().push_back(i);
    end = std::max(end, blocks[i].end);
  }
  return runs;
}

// With the spine on the floor and each run above it (or, where the spine is not live, beside it).
ExactPlacement place_around(std::span<const Block> blocks, size_t spine, int64_t max_nodes) {
  ExactPlacement whole{.placement = {std::vector<uint64_t>(blocks.size()), blocks[spine].bytes},
                       .bound = live_peak(blocks)};
  const Block& s = blocks[spine];
  // Layers repeat: a run is known by its blocks, moved to begin at 0.
  std::map<std::vector<std::array<uint64_t, 3>>, ExactPlacement> known;
  for (const std::vector<size_t>& run : runs_around(blocks, spine)) {
    std::vector<Block> part;
    std::vector<std::array<uint64_t, 3>> key;
    const int64_t origin = blocks[run.front()].begin;
    bool inside = true;
    for (const size_t i : run) {
      const Block& b = blocks[i];
      inside &= s.begin <= b.begin && b.end <= s.end;
      part.push_back({b.bytes, b.begin - origin, b.end - origin});
      key.push_back({b.bytes, static_cast<uint64_t>(b.begin - origin),
                     static_cast<uint64_t>(b.end - origin)});
    }
    ExactPlacement found;
    if (inside) {
      // Moving the spine to the floor and what lay under it up by its size keeps everything apart,
      // so this run needs its own optimum above the spine, and no more.
      auto [it, is_new] = known.try_emplace(std::move(key));
      if (is_new) it->second = search(part, max_nodes);
      found = it->second;
      found.bound += s.bytes;
      for (size_t k = 0; k < run.size(); ++k)
        whole.placement.offsets[run[k]] = s.bytes + found.placement.offsets[k];
      found.placement.peak += s.bytes;
    } else {
      // The spine comes or goes during this run. Above it is a placement; without it, a bound.
      part.push_back({s.bytes, s.begin - origin, s.end - origin});
      found = search(part, max_nodes);
      Placement on_floor = place_in_order(
          part, sorted_order(part.size(), [&](size_t a, size_t b) {
            const bool spine_a = a + 1 == part.size(), spine_b = b + 1 == part.size();
            return spine_a != spine_b ? spine_a : part[a].bytes > part[b].bytes;
          }), false);
      if (found.placement.offsets.back() != 0) found.placement = std::move(on_floor);
      for (size_t k = 0; k < run.size(); ++k)
        whole.placement.offsets[run[k]] = found.placement.offsets[k];
    }
    whole.nodes += found.nodes;
    whole.bound = std::max(whole.bound, found.bound);
    whole.placement.peak = std::max(whole.placement.peak, found.placement.peak);
  }
  whole.proved = whole.placement.peak == whole.bound;
  return whole;
}

}  // namespace

uint64_t aligned_block_bytes(uint64_t bytes) {
  return (std::max<uint64_t>(bytes, 1) + kBlockAlign - 1) / kBlockAlign * kBlockAlign;
}

uint64_t live_peak(std::span<const Block> blocks) {
  std::map<int64_t, int64_t> change;
  for (const Block& b : blocks) {
    if (b.begin >= b.end) continue;
    change[b.begin] += static_cast<int64_t>(b.bytes);
    change[b.end] -= static_cast<int64_t>(b.bytes);
  }
  int64_t live = 0, peak = 0;
  for (const auto& [t, delta] : change) peak = std::max(peak, live += delta);
  return static_cast<uint64_t>(peak);
}

bool is_valid(std::span<const Block> blocks, const Placement& p) {
  if (p.offsets.size() != blocks.size()) return false;
  uint64_t peak = 0;
  for (size_t i = 0; i < blocks.size(); ++i) {
    peak = std::max(peak, p.offsets[i] + blocks[i].bytes);
    for (size_t j = 0; j < i; ++j)
      if (blocks[i].live_with(blocks[j]) && p.offsets[i] < p.offsets[j] + blocks[j].bytes &&
          p.offsets[j] < p.offsets[i] + blocks[i].bytes)
        return false;
  }
  return peak == p.peak;
}

Placement place_first_fit(std::span<const Block> blocks) {
  return place_in_order(blocks, sorted_order(blocks.size(), [&](size_t a, size_t b) {
                          return blocks[a].begin < blocks[b].begin;
                        }), true);
}

Placement place_greedy(std::span<const Block> blocks) {
  const auto life = [&](size_t i) { return blocks[i].end - blocks[i].begin; };
  const auto area = [&](size_t i) { return static_cast<double>(blocks[i].bytes) * static_cast<double>(life(i)); };
  const size_t n = blocks.size();
  const auto by_size = sorted_order(n, [&](size_t a, size_t b) { return blocks[a].bytes > blocks[b].bytes; });
  const auto by_life = sorted_order(n, [&](size_t a, size_t b) { return life(a) > life(b); });
  const auto by_area = sorted_order(n, [&](size_t a, size_t b) { return area(a) > area(b); });
  return better(better(place_in_order(blocks, by_size, false), place_in_order(blocks, by_life, false)),
                place_in_order(blocks, by_area, false));
}

ExactPlacement place_exact(std::span<const Block> blocks, int64_t max_nodes) {
  if (blocks.empty()) return {.proved = true};
  Placement simple = better(place_greedy(blocks), place_first_fit(blocks));
  const uint64_t floor = live_peak(blocks);
  if (simple.peak == floor) return {std::move(simple), floor, true, 0};
  const size_t spine = sorted_order(blocks.size(), [&](size_t a, size_t b) {
    return blocks[a].end - blocks[a].begin > blocks[b].end - blocks[b].begin;
  })[0];
  ExactPlacement whole = runs_around(blocks, spine).size() > 1 ? place_around(blocks, spine, max_nodes)
                                                              : search(blocks, max_nodes);
  if (simple.peak < whole.placement.peak) whole.placement = std::move(simple);
  whole.proved = whole.placement.peak == whole.bound;
  return whole;
}

}  // namespace venturi
