#include "analysis/routing.h"

#include <algorithm>
#include <cassert>
#include <cmath>

namespace venturi {

namespace {

// count[f]: pairs of an expert and a window in which it was chosen f times.
void count_windows(const RoutingTrace& trace, int64_t layer, int64_t window, std::vector<int64_t>& count) {
  std::vector<int32_t> chosen(static_cast<size_t>(trace.n_experts));
  for (int64_t t = 0; t < trace.n_tokens(); ++t) {
    for (const int32_t e : trace.at(t, layer)) ++chosen[static_cast<size_t>(e)];
    if (t >= window)
      for (const int32_t e : trace.at(t - window, layer)) --chosen[static_cast<size_t>(e)];
    if (t + 1 >= window)
      for (const int32_t f : chosen) ++count[static_cast<size_t>(f)];
  }
}

}  // namespace

std::optional<SegmentScore> segment_routing(const RoutingTrace& trace, int64_t window,
                                            std::optional<int64_t> layer) {
  if (trace.n_tokens() < window || window < 1) return std::nullopt;
  std::vector<int64_t> count(static_cast<size_t>(window) + 1);
  for (int64_t l = layer.value_or(0); l < (layer ? *layer + 1 : trace.n_layers); ++l)
    count_windows(trace, l, window, count);
  double used = 0;
  for (int64_t f = 1; f <= window; ++f) used += static_cast<double>(f * count[static_cast<size_t>(f)]);
  SegmentScore best{.window = window};
  // From the highest threshold down, adding what the next lower one lets in.
  double served = 0, held = 0;
  for (int64_t a = window; a >= 1; --a) {
    const auto n = static_cast<double>(count[static_cast<size_t>(a)]);
    served += static_cast<double>(a) * n;
    held += n;
    const double wasted = static_cast<double>(window) * held - served;
    const double f1 = 2 * served / (2 * served + wasted + (used - served));
    if (f1 >= best.srp && held > 0) {
      best.srp = f1;
      best.threshold = a;
      best.rho = static_cast<double>(window) * held / used;
    }
  }
  return best;
}

std::vector<CacheRow> cache_rows(const RoutingTrace& trace, std::span<const double> rhos) {
  std::vector<CacheRow> rows;
  CacheSizes layered{.slots = {}, .per_layer = true}, pooled;
  for (const double rho : rhos) {
    const int64_t slots = std::clamp<int64_t>(std::llround(rho * static_cast<double>(trace.top_k)), 1, trace.n_experts);
    layered.slots.push_back(slots);
    pooled.slots.push_back(slots * trace.n_layers);
    rows.push_back({.rho = static_cast<double>(slots) / static_cast<double>(trace.top_k), .slots = pooled.slots.back(), .entries = {}});
  }
  const auto add = [&](std::string_view name, const std::vector<CacheCount>& layer, const std::vector<CacheCount>& pool) {
    for (size_t i = 0; i < rows.size(); ++i) rows[i].entries.push_back({name, layer[i], pool[i]});
  };
  for (const Eviction* policy : all_evictions()) add(policy->name, simulate(trace, layered, *policy), simulate(trace, pooled, *policy));
  add("sch", simulate_segment(trace, layered, kSegmentWindow), simulate_segment(trace, pooled, kSegmentWindow));
  add("optimum", simulate_farthest(trace, layered), simulate_farthest(trace, pooled));
  return rows;
}

CacheAdvice advise(const std::vector<CacheRow>& rows) {
  assert(!rows.empty());
  std::vector<CacheAdvice> points;
  for (const CacheRow& row : rows) {
    CacheAdvice point{.rho = row.rho, .slots = row.slots};
    for (const auto& entry : row.entries)
      if (find_eviction(entry.policy) && entry.pooled.hit_rate() > point.hit_rate) {
        point.policy = entry.policy;
        point.hit_rate = entry.pooled.hit_rate();
      }
    points.push_back(point);
  }
  const CacheAdvice& first = points.front();
  const CacheAdvice& last = points.back();
  const double slope = last.rho > first.rho ? (last.hit_rate - first.hit_rate) / (last.rho - first.rho) : 0;
  const auto above = [&](const CacheAdvice& p) { return p.hit_rate - first.hit_rate - slope * (p.rho - first.rho); };
  return *std::max_element(points.begin(), points.end(),
                           [&](const CacheAdvice& a, const CacheAdvice& b) { return above(a) < above(b); });
}

}  // namespace venturi
