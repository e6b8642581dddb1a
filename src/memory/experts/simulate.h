// Caches of experts over a routing trace, without a model or a disk: how many of the demands a
// policy would have found in memory, and how many the best choice with hindsight would have.
//
// A demand is one expert that a step needs at one layer. A step is one token of each of `streams`
// sequences, cut from the trace as equal runs of it; an expert that several rows chose is one
// demand. A miss is cold when the expert was never asked for before.
#pragma once

#include <cstdint>

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
};

CacheCount simulate(const RoutingTrace& trace, const CacheSetting& setting, const Eviction& policy);
// The offline optimum: the expert whose next use is farthest leaves, or is not kept (Belady).
CacheCount simulate_farthest(const RoutingTrace& trace, const CacheSetting& setting);
// The segment cache oracle: the expert used least in the next `window` tokens leaves.
CacheCount simulate_segment(const RoutingTrace& trace, const CacheSetting& setting, int64_t window);

}  // namespace venturi
