// Routing traces for tests.
#pragma once

#include <algorithm>
#include <random>

#include "memory/routing_trace.h"

namespace venturi {

// top_k of n_experts, all alike and independent.
inline RoutingTrace uniform_trace(int64_t layers, int64_t experts, int64_t top_k, int64_t tokens, unsigned seed) {
  RoutingTrace trace{.n_layers = layers, .n_experts = experts, .top_k = top_k, .choices = {}};
  std::mt19937 random(seed);
  std::vector<int32_t> all(static_cast<size_t>(experts));
  for (size_t e = 0; e < all.size(); ++e) all[e] = static_cast<int32_t>(e);
  for (int64_t i = 0; i < tokens * layers; ++i) {
    for (int64_t j = 0; j < top_k; ++j)
      std::swap(all[static_cast<size_t>(j)], all[static_cast<size_t>(j) + random() % static_cast<size_t>(experts - j)]);
    trace.choices.insert(trace.choices.end(), all.begin(), all.begin() + top_k);
  }
  return trace;
}

// Each layer's set stays, but for one expert that a random one replaces every `stay` tokens.
inline RoutingTrace sticky_trace(int64_t layers, int64_t experts, int64_t top_k, int64_t tokens, int64_t stay,
                                 unsigned seed) {
  RoutingTrace trace = uniform_trace(layers, experts, top_k, 1, seed);
  std::mt19937 random(seed + 1);
  std::vector<int32_t> now = trace.choices;
  for (int64_t t = 1; t < tokens; ++t) {
    for (int64_t l = 0; l < layers; ++l) {
      const auto set = now.begin() + l * top_k;
      if (static_cast<int64_t>(random() % static_cast<unsigned>(stay)) != 0) continue;
      const auto fresh = static_cast<int32_t>(random() % static_cast<unsigned>(experts));
      if (std::find(set, set + top_k, fresh) == set + top_k) set[static_cast<int64_t>(random() % static_cast<unsigned>(top_k))] = fresh;
    }
    trace.choices.insert(trace.choices.end(), now.begin(), now.end());
  }
  return trace;
}

}  // namespace venturi
