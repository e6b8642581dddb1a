// Caches of experts over a routing trace, without a model or a disk: how many of the demands a
// policy would have found in memory, and how many the best choice with hindsight would have.
//
// A demand is one expert that a step needs at one layer. A step is one token of each of `streams`
// sequences, cut from the trace as equal runs of it; an expert that several rows chose is one
// demand. A miss is cold when the expert was never asked for before.
#pragma once

#include <cstdint>
#include <vector>

#include "memory/eviction/eviction.h"
#include "memory/routing_trace.h"

namespace venturi {

struct CacheCount {
  uint64_t demands = 0, hits = 0, cold = 0;
  uint64_t misses() const { return demands - hits; }
  double hit_rate() const { return demands ? static_cast<double>(hits) / demands : 0; }
  // Of the demands that a cache of any size could have met.
  double warm_hit_rate() const {
    return demands > cold ? static_cast<double>(hits) / (demands - cold) : 0;
  }
  CacheCount& operator+=(const CacheCount& other) {
    demands += other.demands, hits += other.hits, cold += other.cold;
    return *this;
  }
};

struct CacheSetting {
  int64_t slots = 0;       // experts held; per layer if `per_layer`, else of all layers together
  bool per_layer = false;
  int64_t streams = 1;
  bool together = false;   // what a layer needs does not leave for what it misses (early routers; not of the optimum)
};

// Several at once, which takes little longer than one: a policy hears the same whatever is held.
struct CacheSizes {
  std::vector<int64_t> slots;
  bool per_layer = false;
  int64_t streams = 1;
  bool together = false;
};

std::vector<CacheCount> simulate(const RoutingTrace& trace, const CacheSizes& sizes, const Eviction& policy);
// The offline optimum: the expert whose next use is farthest leaves, or is not kept (Belady).
std::vector<CacheCount> simulate_farthest(const RoutingTrace& trace, const CacheSizes& sizes);
// The segment cache oracle: the expert used least in the next `window` tokens leaves.
std::vector<CacheCount> simulate_segment(const RoutingTrace& trace, const CacheSizes& sizes, int64_t window);

inline CacheCount simulate(const RoutingTrace& trace, const CacheSetting& s, const Eviction& policy) {
  return simulate(trace, CacheSizes{{s.slots}, s.per_layer, s.streams, s.together}, policy)[0];
}
inline CacheCount simulate_farthest(const RoutingTrace& trace, const CacheSetting& s) {
  return simulate_farthest(trace, CacheSizes{{s.slots}, s.per_layer, s.streams})[0];
}
inline CacheCount simulate_segment(const RoutingTrace& trace, const CacheSetting& s, int64_t window) {
  return simulate_segment(trace, CacheSizes{{s.slots}, s.per_layer, s.streams}, window)[0];
}

}  // namespace venturi
