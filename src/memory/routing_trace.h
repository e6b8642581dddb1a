// Which experts each token chose, layer by layer: what caches of experts are simulated on, what
// routing is measured from, and what a random model is made to route by.
//
// A trace file is text. The first line is
//   venturi-routes 1 layers=16 experts=64 top_k=8
// then a line per token: the layers' choices separated by one space, best first, each expert one
// digit of base 64 (A-Z a-z 0-9 + /), or two, the high one first, where there are more than 64.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace venturi {

struct RoutingTrace {
  int64_t n_layers = 0, n_experts = 0, top_k = 0;
  std::vector<int32_t> choices;  // [n_tokens, n_layers, top_k]; different within a token's layer

  int64_t n_tokens() const { return static_cast<int64_t>(choices.size()) / (n_layers * top_k); }
  std::span<const int32_t> at(int64_t token, int64_t layer) const {
    return {choices.data() + (token * n_layers + layer) * top_k, static_cast<size_t>(top_k)};
  }
};

std::string format_routing_trace(const RoutingTrace& trace);
// Code::kCorrupt with line, expected and found.
Result<RoutingTrace> parse_routing_trace(std::string_view text);
Result<RoutingTrace> read_routing_trace(const std::string& path);

}  // namespace venturi
