#include "grammar/grammar.h"

#include <algorithm>

namespace venturi::grammar {

Ranges sorted_union(Ranges ranges) {
  std::erase_if(ranges, [](const Range& r) { return r.first > r.last; });
  std::sort(ranges.begin(), ranges.end(), [](const Range& a, const Range& b) { return a.first < b.first; });
  Ranges out;
  for (const Range& r : ranges) {
    if (!out.empty() && r.first <= out.back().last + 1) {
      out.back().last = std::max(out.back().last, r.last);
    } else {
      out.push_back(r);
    }
  }
  return out;
}

Ranges complement(const Ranges& ranges) {
  Ranges out;
  uint32_t next = 0;
  for (const Range& r : sorted_union(ranges)) {
    if (r.first > next) out.push_back({next, r.first - 1});
    next = r.last + 1;
  }
  if (next <= kLastCodePoint) out.push_back({next, kLastCodePoint});
  return out;
}

Ranges intersection(const Ranges& a, const Ranges& b) {
  Ranges out;
  for (const Range& x : a)
    for (const Range& y : b) out.push_back({std::max(x.first, y.first), std::min(x.last, y.last)});
  return sorted_union(std::move(out));
}

int Grammar::add(Node node) {
  nodes_.push_back(std::move(node));
  return static_cast<int>(nodes_.size()) - 1;
}

int Grammar::bytes(std::string_view text) { return add({.kind = Node::Kind::kBytes, .bytes = std::string(text)}); }

int Grammar::any_of(Ranges ranges) {
  return add({.kind = Node::Kind::kClass, .ranges = sorted_union(std::move(ranges))});
}

int Grammar::sequence(std::vector<int> children) {
  if (children.size() == 1) return children[0];
  return add({.kind = Node::Kind::kSequence, .children = std::move(children)});
}

int Grammar::choice(std::vector<int> children) {
  if (children.size() == 1) return children[0];
  return add({.kind = Node::Kind::kChoice, .children = std::move(children)});
}

int Grammar::repeat(int child, int min, int max) {
  return add({.kind = Node::Kind::kRepeat, .children = {child}, .min = min, .max = max});
}

int Grammar::rule(const std::string& name) {
  const auto [at, is_new] = by_name_.try_emplace(name, static_cast<int>(rules_.size()));
  if (is_new) rules_.push_back({name, -1});
  return at->second;
}

int Grammar::reference(const std::string& name) { return add({.kind = Node::Kind::kRule, .rule = rule(name)}); }

int Grammar::embed(const Grammar& other, const std::string& prefix) {
  const int first = static_cast<int>(nodes_.size());
  for (Node node : other.nodes_) {
    for (int& child : node.children) child += first;
    if (node.kind == Node::Kind::kRule) node.rule = rule(prefix + other.rules_[node.rule].name);
    add(std::move(node));
  }
  for (const Rule& r : other.rules_)
    if (r.node >= 0) define(prefix + r.name, first + r.node);
  return reference(prefix + "root");
}

void Grammar::define(const std::string& name, int node) { rules_[rule(name)].node = node; }

bool Grammar::defined(const std::string& name) const {
  const auto at = by_name_.find(name);
  return at != by_name_.end() && rules_[at->second].node >= 0;
}

}  // namespace venturi::grammar
