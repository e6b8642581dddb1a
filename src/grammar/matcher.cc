#include "grammar/matcher.h"

#include <algorithm>
#include <set>

namespace venturi::grammar {

size_t Matcher::PairsHash::operator()(const std::vector<Pair>& pairs) const {
  uint64_t h = 0x9E3779B97F4A7C15u;
  for (const Pair& p : pairs) {
    h ^= static_cast<uint64_t>(static_cast<uint32_t>(p.state)) << 32 | static_cast<uint32_t>(p.stack);
    h *= 0xFF51AFD7ED558CCDu;
    h ^= h >> 32;
  }
  return h;
}

Matcher::Matcher(std::shared_ptr<const Automaton> automaton, MatcherLimits limits)
    : automaton_(std::move(automaton)), limits_(limits) {
  clear();
  start_ = intern({{automaton_->start(), 0}});
}

void Matcher::clear() {
  frames_ = {{-1, -1, 0}};
  frame_ids_.clear();
  sets_ = {SetInfo{}};
  steps_.assign(256, kDead);
  for (auto& ids : set_ids_) ids.clear();
  kept_pairs_ = 0;
}

int32_t Matcher::push(int32_t back, int32_t below) {
  const uint64_t key = static_cast<uint64_t>(static_cast<uint32_t>(back)) << 32 | static_cast<uint32_t>(below);
  const auto [at, is_new] = frame_ids_.try_emplace(key, static_cast<int32_t>(frames_.size()));
  if (is_new) frames_.push_back({back, below, frames_[below].depth + 1});
  return at->second;
}

// Follows what takes no byte, and gives the set its number.
Matcher::Set Matcher::intern(std::vector<Pair> seeds) {
  std::set<Pair> seen(seeds.begin(), seeds.end());
  std::vector<Pair> work(seen.begin(), seen.end()), pairs;
  bool accepts = false;
  const auto visit = [&](Pair p) {
    // Each pair has at most a few that follow from it without a byte.
    if (seen.size() < 4 * static_cast<size_t>(limits_.max_pairs) && seen.insert(p).second) work.push_back(p);
  };
  while (!work.empty()) {
    const Pair p = work.back();
    work.pop_back();
    if (automaton_->ends_rule(p.state)) {
      if (p.stack == 0) accepts = true;
      else visit({frames_[p.stack].back, frames_[p.stack].below});
    }
    bool takes_byte = false;
    for (const Edge* e = automaton_->begin(p.state); e != automaton_->end(p.state); ++e) {
      if (e->kind == Edge::Kind::kByte) takes_byte = true;
      if (e->kind == Edge::Kind::kEpsilon) visit({e->target, p.stack});
      if (e->kind != Edge::Kind::kCall) continue;
      if (e->back < 0) visit({e->target, p.stack});
      else if (frames_[p.stack].depth < limits_.max_depth) visit({e->target, push(e->back, p.stack)});
    }
    if (takes_byte) pairs.push_back(p);
  }
  if (pairs.empty() && !accepts) return kDead;
  std::sort(pairs.begin(), pairs.end());
  if (pairs.size() > static_cast<size_t>(limits_.max_pairs)) pairs.resize(limits_.max_pairs);
  return number(std::move(pairs), accepts);
}

Matcher::Set Matcher::number(std::vector<Pair> pairs, bool accepts) {
  const auto [at, is_new] = set_ids_[accepts].try_emplace(pairs, static_cast<Set>(sets_.size()));
  if (is_new) {
    kept_pairs_ += pairs.size();
    sets_.push_back({std::move(pairs), accepts});
    steps_.resize(sets_.size() * 256, -1);
  }
  return at->second;
}

Matcher::Set Matcher::step(Set set, uint8_t byte) {
  if (sets_.size() > 4 * limits_.max_sets || kept_pairs_ > 4 * limits_.max_kept_pairs) return kDead;
  std::vector<Pair> seeds;
  for (const Pair& p : sets_[set].pairs)
    for (const Edge* e = automaton_->begin(p.state); e != automaton_->end(p.state); ++e)
      if (e->kind == Edge::Kind::kByte && byte >= e->low && byte <= e->high) seeds.push_back({e->target, p.stack});
  const Set found = seeds.empty() ? kDead : intern(std::move(seeds));
  steps_[static_cast<size_t>(set) * 256 + byte] = found;
  return found;
}

Matcher::Set Matcher::collect(Set keep) {
  const SetInfo kept = sets_[keep];
  const std::vector<Frame> old = std::move(frames_);
  clear();
  std::unordered_map<int32_t, int32_t> moved = {{0, 0}};
  std::vector<Pair> pairs;
  for (const Pair& p : kept.pairs) {
    std::vector<int32_t> chain;
    for (int32_t f = p.stack; !moved.contains(f); f = old[f].below) chain.push_back(f);
    for (auto f = chain.rbegin(); f != chain.rend(); ++f) moved[*f] = push(old[*f].back, moved[old[*f].below]);
    pairs.push_back({p.state, moved[p.stack]});
  }
  std::sort(pairs.begin(), pairs.end());
  start_ = intern({{automaton_->start(), 0}});
  if (keep == kDead) return kDead;
  // Closed already; closing again would only find the same, but for what accepts.
  return number(std::move(pairs), kept.accepts);
}

}  // namespace venturi::grammar
