#include "tokenizers/trie.h"

#include <algorithm>

namespace venturi {

Trie::Trie(std::vector<std::pair<std::string_view, int32_t>> keys) {
  std::stable_sort(keys.begin(), keys.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  const auto same = [](const auto& a, const auto& b) { return a.first == b.first; };
  keys.erase(std::unique(keys.begin(), keys.end(), same), keys.end());
  size_t begin = !keys.empty() && keys[0].first.empty() ? 1 : 0;

  nodes_.push_back({});
  labels_.push_back(0);
  struct Range {
    size_t begin, end, depth;
  };
  // Breadth first: ranges[n] holds the keys under node n, all equal in their first `depth` bytes.
  std::vector<Range> ranges = {{begin, keys.size(), 0}};
  for (size_t node = 0; node < ranges.size(); ++node) {
    auto [lo, hi, depth] = ranges[node];
    if (lo < hi && keys[lo].first.size() == depth) nodes_[node].value = keys[lo++].second;
    nodes_[node].first_child = static_cast<uint32_t>(nodes_.size());
    while (lo < hi) {
      const char label = keys[lo].first[depth];
      size_t next = lo + 1;
      while (next < hi && keys[next].first[depth] == label) ++next;
      ranges.push_back({lo, next, depth + 1});
      nodes_.push_back({});
      labels_.push_back(label);
      lo = next;
    }
    nodes_[node].n_children = static_cast<uint32_t>(nodes_.size()) - nodes_[node].first_child;
  }
}

Trie::Match Trie::longest(std::string_view text, size_t at) const {
  Match best;
  Node node = kRoot;
  for (size_t i = at; i < text.size(); ++i) {
    node = step(node, text[i]);
    if (node == kNone) break;
    if (nodes_[node].value >= 0) best = {nodes_[node].value, i + 1 - at};
  }
  return best;
}

}  // namespace venturi
