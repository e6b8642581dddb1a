// Simulated caches against closed forms, against a plain second implementation, and, for the
// optimum, against trying everything.
#include "memory/experts/simulate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <list>
#include <map>
#include <set>

#include "memory/experts/place_missed.h"
#include "memory/experts/test_traces.h"

namespace venturi {
namespace {

// One layer, one expert a token, 0 … n-1 round and round.
RoutingTrace cyclic_trace(int64_t n, int64_t tokens) {
  RoutingTrace trace{.n_layers = 1, .n_experts = n, .top_k = 1, .choices = {}};
  for (int64_t t = 0; t < tokens; ++t) trace.choices.push_back(static_cast<int32_t>(t % n));
  return trace;
}

// LRU and LFU as lists and maps: keys are (layer, expert); hits of a step's layer are counted before
// its misses come in.
uint64_t plain_hits(const RoutingTrace& trace, int64_t slots, bool per_layer, bool frequency) {
  using Key = std::pair<int64_t, int32_t>;
  struct Cache {
    std::set<Key> held;
    std::map<Key, std::pair<int64_t, int64_t>> rank;  // (uses or 0, time)
  };
  std::map<int64_t, Cache> caches;
  uint64_t hits = 0;
  int64_t time = 0;
  for (int64_t t = 0; t < trace.n_tokens(); ++t)
    for (int64_t l = 0; l < trace.n_layers; ++l, ++time) {
      Cache& cache = caches[per_layer ? l : 0];
      std::vector<Key> missed;
      for (const int32_t e : trace.at(t, l)) {
        const Key key{l, e};
        auto& rank = cache.rank[key];
        rank = {frequency ? rank.first + 1 : 0, time};
        if (cache.held.count(key)) {
          ++hits;
        } else {
          missed.push_back(key);
        }
      }
      for (const Key& key : missed) {
        if (static_cast<int64_t>(cache.held.size()) == slots) {
          const auto victim = std::min_element(cache.held.begin(), cache.held.end(), [&](const Key& a, const Key& b) {
            return std::pair(cache.rank[a], a) < std::pair(cache.rank[b], b);
          });
          cache.held.erase(victim);
        }
        cache.held.insert(key);
      }
    }
  return hits;
}

TEST(Simulate, LruAndLfuAgreeWithAPlainImplementation) {
  for (const unsigned seed : {1u, 2u, 3u})
    for (const auto& trace : {uniform_trace(3, 12, 3, 200, seed), sticky_trace(4, 16, 4, 300, 3, seed)})
      for (const int64_t slots : {1, 5, 9, 20})
        for (const bool per_layer : {false, true}) {
          const CacheSetting setting{.slots = slots, .per_layer = per_layer};
          EXPECT_EQ(simulate(trace, setting, *find_eviction("lru")).hits, plain_hits(trace, slots, per_layer, false));
          EXPECT_EQ(simulate(trace, setting, *find_eviction("lfu")).hits, plain_hits(trace, slots, per_layer, true));
        }
}

// Every expert is as likely as any other, so any cache of n of E experts that does not know the
// future holds the next one with n / E.
TEST(Simulate, UniformRoutingGivesTheShareHeld) {
  const auto trace = uniform_trace(2, 64, 8, 4000, 7);
  for (const double rho : {1.0, 2.0, 3.0}) {
    const auto slots = static_cast<int64_t>(rho * 8);
    for (const Eviction* policy : all_evictions()) {
      const CacheCount count = simulate(trace, {.slots = slots, .per_layer = true}, *policy);
      // 64,000 demands: three standard deviations are below 0.006.
      EXPECT_NEAR(count.hit_rate(), rho * 8 / 64, 0.006) << policy->name;
    }
    const CacheCount segment = simulate_segment(trace, {.slots = slots, .per_layer = true}, 16);
    const CacheCount optimum = simulate_farthest(trace, {.slots = slots, .per_layer = true});
    EXPECT_GT(segment.hit_rate(), rho * 8 / 64 + 0.05);
    EXPECT_GT(optimum.hit_rate(), segment.hit_rate());
  }
}

TEST(Simulate, SizesTogetherAreAsOneByOne) {
  const auto trace = sticky_trace(3, 16, 4, 300, 3, 4);
  const std::vector<int64_t> slots{20, 3, 9, 48};
  for (const bool per_layer : {false, true}) {
    const CacheSizes sizes{.slots = slots, .per_layer = per_layer, .streams = 2};
    const auto check = [&](const std::vector<CacheCount>& together, auto alone) {
      for (size_t i = 0; i < slots.size(); ++i) {
        const CacheCount one = alone(CacheSetting{.slots = slots[i], .per_layer = per_layer, .streams = 2});
        EXPECT_EQ(together[i].hits, one.hits);
        EXPECT_EQ(together[i].demands, one.demands);
        EXPECT_EQ(together[i].cold, one.cold);
      }
    };
    for (const Eviction* policy : all_evictions())
      check(simulate(trace, sizes, *policy), [&](const CacheSetting& s) { return simulate(trace, s, *policy); });
    check(simulate_farthest(trace, sizes), [&](const CacheSetting& s) { return simulate_farthest(trace, s); });
    check(simulate_segment(trace, sizes, 5), [&](const CacheSetting& s) { return simulate_segment(trace, s, 5); });
  }
}

// A cyclic scan of 10 with room for 4: least recently used finds nothing, the optimum 4 in 10.
TEST(Simulate, CyclicScan) {
  const auto trace = cyclic_trace(10, 10000);
  EXPECT_EQ(simulate(trace, {.slots = 4}, *find_eviction("lru")).hits, 0u);
  EXPECT_NEAR(simulate_farthest(trace, {.slots = 4}).hit_rate(), 0.4, 0.001);
  EXPECT_EQ(simulate(trace, {.slots = 10}, *find_eviction("lru")).misses(), 10u);
}

TEST(Simulate, ColdMissesAreThoseOfAnEndlessCache) {
  const auto trace = sticky_trace(3, 16, 2, 100, 4, 5);
  std::set<std::pair<int64_t, int32_t>> asked;
  for (int64_t t = 0; t < trace.n_tokens(); ++t)
    for (int64_t l = 0; l < trace.n_layers; ++l)
      for (const int32_t e : trace.at(t, l)) asked.insert({l, e});
  for (const Eviction* policy : all_evictions()) {
    const CacheCount all = simulate(trace, {.slots = 48}, *policy);
    EXPECT_EQ(all.cold, asked.size());
    EXPECT_EQ(all.misses(), asked.size());
    EXPECT_DOUBLE_EQ(all.warm_hit_rate(), 1);
    EXPECT_EQ(simulate(trace, {.slots = 6}, *policy).cold, asked.size());
  }
}

// Most hits that any sequence of decisions gives, one layer and one expert a token, by trying them all.
int most_hits(const std::vector<int32_t>& uses, size_t at, std::set<int32_t> held, size_t slots) {
  if (at == uses.size()) return 0;
  if (held.count(uses[at])) return 1 + most_hits(uses, at + 1, held, slots);
  int best = most_hits(uses, at + 1, held, slots);  // not kept
  auto with = held;
  with.insert(uses[at]);
  if (held.size() < slots) return std::max(best, most_hits(uses, at + 1, with, slots));
  for (const int32_t victim : held) {
    auto next = with;
    next.erase(victim);
    best = std::max(best, most_hits(uses, at + 1, next, slots));
  }
  return best;
}

TEST(Simulate, TheOptimumIsTheBestOfAllDecisions) {
  for (unsigned seed = 1; seed <= 20; ++seed) {
    const auto trace = uniform_trace(1, 5, 1, 13, seed);
    for (const size_t slots : {1u, 2u, 3u})
      EXPECT_EQ(simulate_farthest(trace, {.slots = static_cast<int64_t>(slots)}).hits,
                static_cast<uint64_t>(most_hits(trace.choices, 0, {}, slots)));
  }
}

// What every policy must do, whatever it thinks.
TEST(Simulate, EveryPolicyIsBoundedAndRepeatable) {
  const auto trace = sticky_trace(4, 24, 4, 400, 2, 9);
  for (const Eviction* policy : all_evictions())
    for (const int64_t streams : {1, 3})
      for (const bool per_layer : {false, true}) {
        const CacheSetting setting{.slots = per_layer ? 6 : 24, .per_layer = per_layer, .streams = streams};
        const CacheCount count = simulate(trace, setting, *policy);
        EXPECT_LE(count.hits, simulate_farthest(trace, setting).hits) << policy->name;
        EXPECT_EQ(simulate(trace, setting, *policy).hits, count.hits) << policy->name;
        EXPECT_EQ(count.demands, simulate_farthest(trace, setting).demands);
      }
}

// Rows of a step that choose the same expert ask for it once.
TEST(Simulate, StreamsShareWhatTheyAskFor) {
  RoutingTrace trace{.n_layers = 1, .n_experts = 4, .top_k = 1, .choices = {0, 1, 0, 2}};
  EXPECT_EQ(simulate(trace, {.slots = 1}, *find_eviction("lru")).demands, 4u);
  EXPECT_EQ(simulate(trace, {.slots = 1, .streams = 2}, *find_eviction("lru")).demands, 3u);
}

TEST(Simulate, ForecastsAreChances) {
  const auto trace = sticky_trace(3, 16, 4, 200, 3, 4);
  for (const Eviction* policy : all_evictions()) {
    const auto evictor = policy->create({trace.n_layers, trace.n_experts});
    for (int64_t t = 0; t < trace.n_tokens(); ++t)
      for (int64_t l = 0; l < trace.n_layers; ++l) {
        evictor->chosen(l, trace.at(t, l));
        for (int32_t e = 0; e < 16; ++e) {
          const double p = evictor->likelihood((l + 1) % 3, e);
          ASSERT_TRUE(p >= 0 && p <= 1) << policy->name;
          ASSERT_FALSE(std::isnan(evictor->worth(l, e))) << policy->name;
        }
      }
  }
}

// What a visit needs stays for it while the cache has anything else, whatever the policy thinks of it.
TEST(PlaceMissed, TogetherWhatIsNeededStays) {
  const std::function<double(int64_t)> worth = [](int64_t unit) { return unit < 3 ? 0.0 : 1.0; };
  for (const bool together : {false, true})
    for (const int64_t slots : {2, 4}) {
      SlotTable table(8, slots);
      for (int64_t unit = 8 - slots; unit < 8; ++unit) table.place(unit, worth);
      std::vector<int64_t> held, missed = {0, 1, 2};
      if (slots == 4) held = {4};
      std::vector<std::pair<int64_t, int32_t>> placed;
      place_missed(table, held, missed, worth, false, together,
                   [&](int64_t unit, int32_t slot) { placed.emplace_back(unit, slot); });
      ASSERT_EQ(placed.size(), 3u);
      for (const auto& [unit, slot] : placed) EXPECT_NE(slot, SlotTable::kNone);
      // Without, each of the three, which are worth least, leaves for the next one.
      EXPECT_TRUE(table.holds(2));
      EXPECT_EQ(table.holds(0), together && slots == 4);
      EXPECT_EQ(table.holds(1), together);
      EXPECT_EQ(table.holds(4), together && slots == 4);
      // No lock is left.
      EXPECT_NE(table.place(3, worth), SlotTable::kNone);
    }
}

}  // namespace
}  // namespace venturi
