#include "memory/experts/simulate.h"

#include <algorithm>
#include <cassert>
#include <functional>
#include <limits>
#include <utility>

#include "memory/experts/place_missed.h"

namespace venturi {

namespace {

// What each layer of each step asks for, each expert once, in the order of rows.
class Demands {
 public:
  Demands(const RoutingTrace& trace, int64_t streams)
      : shape_{trace.n_layers, trace.n_experts}, steps_(trace.n_tokens() / streams) {
    for (int64_t step = 0; step < steps_; ++step)
      for (int64_t layer = 0; layer < trace.n_layers; ++layer) {
        const size_t begin = experts_.size();
        for (int64_t stream = 0; stream < streams; ++stream)
          for (const int32_t e : trace.at(stream * steps_ + step, layer))
            if (std::find(experts_.begin() + static_cast<int64_t>(begin), experts_.end(), e) == experts_.end())
              experts_.push_back(e);
        ends_.push_back(experts_.size());
      }
  }
  const ExpertShape& shape() const { return shape_; }
  int64_t steps() const { return steps_; }
  std::span<const int32_t> at(int64_t step, int64_t layer) const {
    const auto i = static_cast<size_t>(step * shape_.n_layers + layer);
    const size_t begin = i == 0 ? 0 : ends_[i - 1];
    return {experts_.data() + begin, ends_[i] - begin};
  }

 private:
  ExpertShape shape_;
  int64_t steps_;
  std::vector<int32_t> experts_;
  std::vector<size_t> ends_;  // [steps, layers]
};

// Uses of each unit as layer visits counted from 0, and how far the run has come.
class Future : public Evictor {
 public:
  explicit Future(const Demands& demands)
      : shape_(demands.shape()), uses_(static_cast<size_t>(shape_.units())), next_(uses_.size()) {
    for (int64_t step = 0; step < demands.steps(); ++step)
      for (int64_t layer = 0; layer < shape_.n_layers; ++layer)
        for (const int32_t e : demands.at(step, layer))
          uses_[static_cast<size_t>(layer * shape_.n_experts + e)].push_back(step * shape_.n_layers + layer);
  }
  void chosen(int64_t layer, std::span<const int32_t> experts) override {
    step_ += layer <= layer_;
    layer_ = layer;
    for (const int32_t e : experts) ++next_[static_cast<size_t>(layer * shape_.n_experts + e)];
  }

 protected:
  size_t unit(int64_t layer, int32_t expert) const { return static_cast<size_t>(layer * shape_.n_experts + expert); }
  ExpertShape shape_;
  int64_t now() const { return step_ * shape_.n_layers + layer_; }
  int64_t step_ = -1, layer_ = shape_.n_layers;
  std::vector<std::vector<int64_t>> uses_;
  std::vector<size_t> next_;  // of each unit, the first use that is still to come
};

class Farthest : public Future {
 public:
  using Future::Future;
  double worth(int64_t layer, int32_t expert) const override {
    const size_t u = unit(layer, expert);
    return next_[u] < uses_[u].size() ? -static_cast<double>(uses_[u][next_[u]])
                                      : -std::numeric_limits<double>::infinity();
  }
};

class Segment : public Future {
 public:
  Segment(const Demands& demands, int64_t window) : Future(demands), window_(window), last_(uses_.size()) {}
  void chosen(int64_t layer, std::span<const int32_t> experts) override {
    Future::chosen(layer, experts);
    for (const int32_t e : experts) last_[unit(layer, e)] = now();
  }
  // Uses within the window; of equal ones, the least recent leaves.
  double worth(int64_t layer, int32_t expert) const override {
    const size_t u = unit(layer, expert);
    const int64_t end = now() + 1 + window_ * shape_.n_layers;
    const auto first = uses_[u].begin() + static_cast<int64_t>(next_[u]);
    const auto count = std::lower_bound(first, uses_[u].end(), end) - first;
    return static_cast<double>(count) + static_cast<double>(last_[u]) / static_cast<double>(now() + 1);
  }

 private:
  int64_t window_;
  std::vector<int64_t> last_;
};

// Caches of several sizes over layers [first, first + count). What a policy makes of the choices does not depend on what
// is held, so one serves all.
std::vector<CacheCount> run_cache(const Demands& demands, int64_t first, int64_t count, std::span<const int64_t> slots,
                                  Evictor& policy, bool may_decline, bool together) {
  const ExpertShape& shape = demands.shape();
  std::vector<SlotTable> tables;
  for (const int64_t n : slots) {
    assert(n > 0);
    tables.emplace_back(shape.units(), n);
  }
  std::vector<char> seen(static_cast<size_t>(shape.units()));
  std::vector<CacheCount> totals(slots.size());
  // Of every unit, as long as the policy hears nothing new.
  std::vector<double> worths(static_cast<size_t>(shape.units()));
  const std::function<double(int64_t)> worth = [&](int64_t unit) { return worths[static_cast<size_t>(unit)]; };
  const auto find_worths = [&] {
    for (int64_t layer = first; layer < first + count; ++layer)
      for (int64_t e = 0; e < shape.n_experts; ++e)
        worths[static_cast<size_t>(layer * shape.n_experts + e)] = policy.worth(layer, static_cast<int32_t>(e));
  };
  std::vector<int64_t> missed, held;
  for (int64_t step = 0; step < demands.steps(); ++step)
    for (int64_t layer = first; layer < first + count; ++layer) {
      const auto experts = demands.at(step, layer);
      policy.chosen(layer, experts);
      uint64_t cold = 0;
      for (const int32_t e : experts) {
        char& was = seen[static_cast<size_t>(layer * shape.n_experts + e)];
        cold += !was;
        was = 1;
      }
      bool found = false;
      for (size_t i = 0; i < tables.size(); ++i) {
        missed.clear();
        held.clear();
        // What is held is used first, and may leave then.
        for (const int32_t e : experts) {
          const int64_t unit = layer * shape.n_experts + e;
          (tables[i].holds(unit) ? held : missed).push_back(unit);
        }
        totals[i] += {.demands = experts.size(), .hits = experts.size() - missed.size(), .cold = cold};
        if (!missed.empty() && !std::exchange(found, true)) find_worths();
        place_missed(tables[i], held, missed, worth, may_decline, together, [](int64_t, int32_t) {});
      }
    }
  return totals;
}

// `make` gives a fresh policy.
template <typename Make>
std::vector<CacheCount> run_caches(const Demands& demands, const CacheSizes& sizes, bool may_decline, const Make& make) {
  const int64_t layers = demands.shape().n_layers;
  const bool together = sizes.together && !may_decline;
  if (!sizes.per_layer) return run_cache(demands, 0, layers, sizes.slots, *make(), may_decline, together);
  std::vector<CacheCount> totals(sizes.slots.size());
  for (int64_t layer = 0; layer < layers; ++layer) {
    const std::vector<CacheCount> counts = run_cache(demands, layer, 1, sizes.slots, *make(), may_decline, together);
    for (size_t i = 0; i < totals.size(); ++i) totals[i] += counts[i];
  }
  return totals;
}

}  // namespace

std::vector<CacheCount> simulate(const RoutingTrace& trace, const CacheSizes& sizes, const Eviction& policy) {
  const Demands demands(trace, sizes.streams);
  return run_caches(demands, sizes, false, [&] { return policy.create(demands.shape()); });
}

std::vector<CacheCount> simulate_farthest(const RoutingTrace& trace, const CacheSizes& sizes) {
  const Demands demands(trace, sizes.streams);
  return run_caches(demands, sizes, true, [&] { return std::make_unique<Farthest>(demands); });
}

std::vector<CacheCount> simulate_segment(const RoutingTrace& trace, const CacheSizes& sizes, int64_t window) {
  const Demands demands(trace, sizes.streams);
  return run_caches(demands, sizes, false, [&] { return std::make_unique<Segment>(demands, window); });
}

}  // namespace venturi
