// Local routing consistency of a mixture: whether consecutive tokens choose the same experts, and
// so what a cache of experts can give.
//
// SRP and SCH are the metrics of "Not All Models Suit Expert Offloading: On Local Routing
// Consistency of Mixture-of-Expert Models" (arXiv 2505.16056). f is how often an expert is chosen
// within a window of m tokens, every start counted.
//   SRP: the best F1 score of serving each window by the experts with f >= a, over the thresholds a:
//        TP = sum of f where f >= a, FP = sum of (m - f) there, FN = sum of f elsewhere.
//   rho: average experts held over average experts used at that threshold, m #{f >= a} / sum of f.
//   SCH: hit rate of a cache that evicts the expert used least in the next m tokens.
#pragma once

#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "memory/experts/simulate.h"

namespace venturi {

struct SegmentScore {
  int64_t window = 0;
  double srp = 0, rho = 0;
  int64_t threshold = 0;  // a of the best F1; of equal ones, the lowest
};

// Of one layer, or of all together (one threshold). Nothing when the trace is shorter than the window.
std::optional<SegmentScore> segment_routing(const RoutingTrace& trace, int64_t window,
                                            std::optional<int64_t> layer = std::nullopt);

// Hit rates at one size of cache, by policy: those of the registry, the segment oracle "sch" and
// "optimum".
struct CacheRow {
  double rho = 0;     // slots over experts that a token uses
  int64_t slots = 0;  // of all layers together
  struct Entry {
    std::string_view policy;
    CacheCount per_layer, pooled;
  };
  std::vector<Entry> entries;
};
constexpr int64_t kSegmentWindow = 16;  // of "sch"
std::vector<CacheRow> cache_rows(const RoutingTrace& trace, std::span<const double> rhos);

struct CacheAdvice {
  double rho = 0;
  int64_t slots = 0;             // of all layers together
  std::string_view policy = {};  // the policy with the most hits there
  double hit_rate = 0;           // of it, one cache for all layers
};
// Where the curve of the best policy's hits over slots bends: the point farthest above the chord from the
// first row to the last.
CacheAdvice advise(const std::vector<CacheRow>& rows);

}  // namespace venturi
