#include "ops/order.h"

#include <algorithm>
#include <bit>
#include <numeric>
#include <queue>
#include <tuple>
#include <unordered_map>
#include <utility>

namespace venturi {

namespace {

void add_once(std::vector<int32_t>& list, int32_t value) {
  if (std::find(list.begin(), list.end(), value) == list.end()) list.push_back(value);
}

// ---- the graph of a pass ----

// The operator that each op of a pass belongs to.
std::vector<int32_t> merge_groups(std::span<const OpAccess> accesses, OperatorGraph& graph) {
  std::vector<int32_t> operator_of;
  for (size_t i = 0; i < accesses.size(); ++i) {
    const bool joins = i > 0 && accesses[i].group >= 0 && accesses[i].group == accesses[i - 1].group;
    if (!joins) graph.operators.push_back({.name = accesses[i].op, .before = {}, .makes = {}, .takes = {}});
    operator_of.push_back(static_cast<int32_t>(graph.operators.size()) - 1);
  }
  return operator_of;
}

// The ops of a pass, in turn, and what their blocks have been through.
class Reader {
 public:
  explicit Reader(const Context& shape)
      : accesses_(shape.accesses()), trace_(shape.arena().trace()), blocks_(trace_.size()),
        operator_of_(merge_groups(accesses_, graph_)) {
    // What was allocated since the op before is at the op's hand.
    size_t op = 0;
    for (size_t b = 0; b < trace_.size(); ++b) {
      graph_.blocks.push_back(trace_[b].bytes);
      while (op + 1 < accesses_.size() && accesses_[op].n_blocks <= static_cast<int32_t>(b)) ++op;
      if (!accesses_.empty()) blocks_[b].allocator = operator_of_[op];
    }
  }

  OperatorGraph graph() && {
    for (size_t i = 0; i < accesses_.size(); ++i) {
      const int32_t me = operator_of_[i];
      for (const int32_t other : accesses_[i].after) follow(me, operator_of_[static_cast<size_t>(other)]);
      for (const int32_t b : accesses_[i].reads) read(me, b);
      for (const int32_t b : accesses_[i].writes) write(me, b);
    }
    find_scratch();
    return std::move(graph_);
  }

 private:
  struct History {
    int32_t allocator = -1, writer = -1;  // operators; the writer is the last one
    std::vector<int32_t> readers;         // since then
    std::vector<int32_t> touched_by;
  };

  Operator& op(int32_t i) { return graph_.operators[static_cast<size_t>(i)]; }
  void follow(int32_t me, int32_t other) {
    if (other >= 0 && other != me) add_once(op(me).before, other);
  }
  void touch(int32_t me, int32_t b) {
    History& block = blocks_[static_cast<size_t>(b)];
    if (std::find(block.touched_by.begin(), block.touched_by.end(), me) != block.touched_by.end()) return;
    (block.touched_by.empty() ? op(me).makes : op(me).takes).push_back(b);
    block.touched_by.push_back(me);
  }
  void read(int32_t me, int32_t b) {
    History& block = blocks_[static_cast<size_t>(b)];
    if (block.touched_by.empty()) write(block.allocator, b);
    follow(me, block.writer);
    add_once(block.readers, me);
    touch(me, b);
  }
  void write(int32_t me, int32_t b) {
    History& block = blocks_[static_cast<size_t>(b)];
    follow(me, block.writer);
    for (const int32_t reader : block.readers) follow(me, reader);
    block.readers.clear();
    block.writer = me;
    touch(me, b);
  }
  // Blocks that one operator alone knows.
  void find_scratch() {
    std::vector<std::vector<Block>> own(graph_.operators.size());
    for (size_t b = 0; b < blocks_.size(); ++b) {
      const History& block = blocks_[b];
      if (block.touched_by.size() > 1 || block.allocator < 0) continue;
      const int32_t owner = block.touched_by.empty() ? block.allocator : block.touched_by[0];
      std::erase(op(owner).makes, static_cast<int32_t>(b));
      own[static_cast<size_t>(owner)].push_back(trace_[b]);
    }
    for (size_t i = 0; i < own.size(); ++i) graph_.operators[i].scratch = live_peak(own[i]);
  }

  OperatorGraph graph_;
  const std::vector<OpAccess>& accesses_;
  const std::vector<Block> trace_;
  std::vector<History> blocks_;
  const std::vector<int32_t> operator_of_;
};

// ---- orders ----

// What lives across each moment of an order, kept up operator by operator.
class Live {
 public:
  explicit Live(const OperatorGraph& graph) : graph_(graph), left_(graph.blocks.size()) {
    for (const Operator& op : graph.operators) {
      for (const int32_t b : op.makes) ++left_[b];
      for (const int32_t b : op.takes) ++left_[b];
    }
  }
  uint64_t now() const { return now_; }
  uint64_t need(int32_t i) const {
    const Operator& op = graph_.operators[i];
    uint64_t bytes = now_ + op.scratch;
    for (const int32_t b : op.makes) bytes += graph_.blocks[b];
    return bytes;
  }
  uint64_t after(int32_t i) const {
    uint64_t bytes = now_;
    for (const int32_t b : graph_.operators[i].makes) bytes += left_[b] > 1 ? graph_.blocks[b] : 0;
    for (const int32_t b : graph_.operators[i].takes) bytes -= left_[b] == 1 ? graph_.blocks[b] : 0;
    return bytes;
  }
  void run(int32_t i) {
    now_ = after(i);
    for (const int32_t b : graph_.operators[i].makes) --left_[b];
    for (const int32_t b : graph_.operators[i].takes) --left_[b];
  }

 private:
  const OperatorGraph& graph_;
  std::vector<int32_t> left_;  // operators that have yet to touch a block
  uint64_t now_ = 0;
};

// Peak of the operators [begin, end) of an order.
uint64_t peak_between(const OperatorGraph& graph, std::span<const int32_t> order, size_t begin, size_t end) {
  Live live(graph);
  uint64_t peak = 0;
  for (size_t i = 0; i < end; ++i) {
    if (i >= begin) peak = std::max(peak, live.need(order[i]));
    live.run(order[i]);
  }
  return peak;
}

// ---- parts ----

// Operators that come before each, as bits.
class Ancestors {
 public:
  explicit Ancestors(const OperatorGraph& graph) : n_(graph.operators.size()), words_((n_ + 63) / 64), bits_(n_ * words_) {
    for (size_t i = 0; i < n_; ++i)
      for (const int32_t b : graph.operators[i].before) {
        for (size_t w = 0; w < words_; ++w) bits_[i * words_ + w] |= bits_[b * words_ + w];
        bits_[i * words_ + b / 64] |= uint64_t{1} << b % 64;
      }
  }
  // How many come before each, and how many after.
  std::pair<std::vector<size_t>, std::vector<size_t>> counts() const {
    std::vector<size_t> before(n_), after(n_);
    for (size_t i = 0; i < n_; ++i)
      for (size_t w = 0; w < words_; ++w)
        for (uint64_t rest = bits_[i * words_ + w]; rest; rest &= rest - 1) {
          ++before[i];
          ++after[w * 64 + static_cast<size_t>(std::countr_zero(rest))];
        }
    return {before, after};
  }

 private:
  size_t n_, words_;
  std::vector<uint64_t> bits_;
};

// Runs of the program's order that every order keeps together and in this sequence.
std::vector<std::pair<size_t, size_t>> parts_of(const OperatorGraph& graph) {
  const size_t n = graph.operators.size();
  const auto [before, after] = Ancestors(graph).counts();
  std::vector<std::pair<size_t, size_t>> parts;
  size_t begin = 0;
  for (size_t i = 0; i < n; ++i) {
    if (before[i] + after[i] + 1 != n) continue;
    if (begin < i) parts.emplace_back(begin, i);
    parts.emplace_back(i, i + 1);
    begin = i + 1;
  }
  if (begin < n) parts.emplace_back(begin, n);
  return parts;
}

// ---- the search over sets of one part ----

class PartSearch {
 public:
  PartSearch(const OperatorGraph& graph, size_t begin, size_t end)
      : begin_(begin), n_(end - begin), full_(n_ == 64 ? ~uint64_t{0} : (uint64_t{1} << n_) - 1) {
    std::unordered_map<int32_t, size_t> index;
    const auto block = [&](int32_t b) -> PartBlock& {
      const auto [found, is_new] = index.try_emplace(b, blocks_.size());
      if (is_new) blocks_.push_back({.bytes = graph.blocks[b]});
      return blocks_[found->second];
    };
    for (size_t i = 0; i < n_; ++i) {
      const Operator& op = graph.operators[begin + i];
      needs_.push_back({.bytes = op.scratch});
      for (const int32_t b : op.before)
        if (b >= static_cast<int32_t>(begin)) needs_[i].before |= bit(b - begin);
      for (const int32_t b : op.makes) {
        block(b).touched |= bit(i);
        block(b).maker = bit(i);
        needs_[i].bytes += graph.blocks[b];
      }
      for (const int32_t b : op.takes) block(b).touched |= bit(i);
    }
    for (size_t i = 0; i < graph.operators.size(); ++i) {
      if (i >= begin && i < end) continue;
      const Operator& op = graph.operators[i];
      for (const int32_t b : op.makes) outside(index, b, i < begin);
      for (const int32_t b : op.takes) outside(index, b, i < begin);
    }
    for (const auto& [b, sides] : passing_)
      if (sides == 3) base_ += graph.blocks[b];
  }

  struct Found {
    std::vector<int32_t> order;  // empty: none within max_states
    uint64_t peak = 0, bound = 0;
    int64_t states = 0;
  };

  Found run(int64_t max_states) {
    uint64_t least = 0;  // what some operator needs in any order
    for (size_t i = 0; i < n_; ++i) least = std::max(least, needs_[i].bytes + taken_by(i));
    std::priority_queue<State, std::vector<State>, std::greater<>> queue;
    std::unordered_map<uint64_t, Reached> reached;
    reached[0] = {least, -1, false};
    queue.push({least, 0, 0});
    while (!queue.empty()) {
      const auto [peak, left, set] = queue.top();
      Reached& here = reached[set];
      if (set == full_) return {path(reached), peak, peak, static_cast<int64_t>(reached.size())};
      if (static_cast<int64_t>(reached.size()) > max_states) return {{}, 0, peak, static_cast<int64_t>(reached.size())};
      queue.pop();
      if (here.done || here.peak < peak) continue;
      here.done = true;
      expand(set, peak, queue, reached);
    }
    return {};
  }

 private:
  struct PartBlock {
    uint64_t bytes = 0, touched = 0, maker = 0;  // maker 0: there before
    bool stays = false;                          // touched afterwards
  };
  struct Need {
    uint64_t bytes = 0, before = 0;  // made and scratch; operators of the part
  };
  using State = std::tuple<uint64_t, int, uint64_t>;  // peak, operators left, set
  struct Reached {
    uint64_t peak = 0;
    int32_t by = -1;  // the operator run last
    bool done = false;
  };

  static uint64_t bit(uint64_t i) { return uint64_t{1} << i; }

  void outside(const std::unordered_map<int32_t, size_t>& index, int32_t b, bool earlier) {
    if (const auto found = index.find(b); found != index.end()) {
      blocks_[found->second].stays |= !earlier;
    } else {
      passing_[b] |= earlier ? 1 : 2;
    }
  }
  uint64_t live(uint64_t set) const {
    uint64_t bytes = base_;
    for (const PartBlock& b : blocks_)
      if ((b.maker == 0 || (set & b.maker)) && (b.stays || (b.touched & ~set))) bytes += b.bytes;
    return bytes;
  }
  uint64_t taken_by(size_t i) const {
    uint64_t bytes = base_;
    for (const PartBlock& b : blocks_)
      if ((b.touched & bit(i)) && b.maker != bit(i)) bytes += b.bytes;
    return bytes;
  }
  void expand(uint64_t set, uint64_t peak, auto& queue, auto& reached) const {
    const uint64_t now = live(set);
    for (const bool only_free : {true, false})
      for (size_t i = 0; i < n_; ++i) {
        if ((set & bit(i)) || (needs_[i].before & ~set)) continue;
        const uint64_t next = set | bit(i), need = now + needs_[i].bytes;
        if (only_free && (need > peak || live(next) > now)) continue;
        const auto [found, is_new] = reached.try_emplace(next);
        const uint64_t spent = std::max(peak, need);
        if (is_new || spent < found->second.peak) {
          found->second = {spent, static_cast<int32_t>(i), false};
          queue.push({spent, static_cast<int>(n_) - std::popcount(next), next});
        }
        if (only_free) return;
      }
  }
  std::vector<int32_t> path(const auto& reached) const {
    std::vector<int32_t> order;
    for (uint64_t set = full_; set;) {
      const int32_t by = reached.at(set).by;
      order.push_back(static_cast<int32_t>(begin_) + by);
      set &= ~bit(static_cast<uint64_t>(by));
    }
    std::reverse(order.begin(), order.end());
    return order;
  }

  size_t begin_, n_;
  uint64_t full_, base_ = 0;
  std::vector<PartBlock> blocks_;
  std::vector<Need> needs_;
  std::unordered_map<int32_t, int> passing_;  // blocks that the part does not touch: 1 before it, 2 after
};

// No order of the part needs less than what one of its operators holds.
uint64_t simple_bound(const OperatorGraph& graph, size_t begin, size_t end) {
  uint64_t bound = 0;
  for (size_t i = begin; i < end; ++i) {
    const Operator& op = graph.operators[i];
    uint64_t bytes = op.scratch;
    for (const int32_t b : op.makes) bytes += graph.blocks[b];
    for (const int32_t b : op.takes) bytes += graph.blocks[b];
    bound = std::max(bound, bytes);
  }
  return bound;
}

}  // namespace

OperatorGraph operators_of(const Context& shape) { return Reader(shape).graph(); }

bool is_order(const OperatorGraph& graph, std::span<const int32_t> order) {
  std::vector<char> ran(graph.operators.size());
  for (const int32_t i : order) {
    if (i < 0 || static_cast<size_t>(i) >= ran.size() || std::exchange(ran[i], 1)) return false;
    for (const int32_t b : graph.operators[i].before)
      if (!ran[b]) return false;
  }
  return order.size() == ran.size();
}

std::vector<Block> blocks_in_order(const OperatorGraph& graph, std::span<const int32_t> order) {
  std::vector<Block> blocks(graph.blocks.size());
  for (size_t b = 0; b < blocks.size(); ++b) blocks[b] = {graph.blocks[b], INT64_MAX, 0};
  std::vector<Block> scratch;
  for (size_t t = 0; t < order.size(); ++t) {
    const auto now = static_cast<int64_t>(t);
    const Operator& op = graph.operators[order[t]];
    for (const auto* list : {&op.makes, &op.takes})
      for (const int32_t b : *list) {
        blocks[b].begin = std::min(blocks[b].begin, now);
        blocks[b].end = std::max(blocks[b].end, now + 1);
      }
    if (op.scratch > 0) scratch.push_back({op.scratch, now, now + 1});
  }
  std::erase_if(blocks, [](const Block& b) { return b.end == 0; });
  blocks.insert(blocks.end(), scratch.begin(), scratch.end());
  return blocks;
}

std::vector<int32_t> program_order(const OperatorGraph& graph) {
  std::vector<int32_t> order(graph.operators.size());
  std::iota(order.begin(), order.end(), 0);
  return order;
}

std::vector<int32_t> greedy_order(const OperatorGraph& graph) {
  Live live(graph);
  std::vector<int32_t> order;
  std::vector<char> ran(graph.operators.size());
  while (order.size() < ran.size()) {
    int32_t best = -1;
    std::pair<uint64_t, uint64_t> least;
    for (int32_t i = 0; i < static_cast<int32_t>(ran.size()); ++i) {
      const std::vector<int32_t>& before = graph.operators[i].before;
      if (ran[i] || !std::all_of(before.begin(), before.end(), [&](int32_t b) { return ran[b]; })) continue;
      const std::pair<uint64_t, uint64_t> cost = {live.after(i), live.need(i)};
      if (best < 0 || cost < least) best = i, least = cost;
    }
    ran[best] = 1;
    live.run(best);
    order.push_back(best);
  }
  return order;
}

ExactOrder find_order(const OperatorGraph& graph, int64_t max_states) {
  ExactOrder whole{.order = program_order(graph)};
  const std::vector<int32_t> program = whole.order, greedy = greedy_order(graph);
  for (const auto& [begin, end] : parts_of(graph)) {
    const uint64_t as_is = peak_between(graph, program, begin, end);
    uint64_t peak = as_is, bound = as_is;
    if (end - begin > 1) {
      PartSearch::Found found{.order = {}, .bound = simple_bound(graph, begin, end)};
      if (end - begin <= 64) found = PartSearch(graph, begin, end).run(max_states);
      whole.states += found.states;
      bound = std::min(as_is, found.bound);
      const uint64_t by_greed = peak_between(graph, greedy, begin, end);
      if (found.order.empty() && by_greed < as_is) {
        std::copy(greedy.begin() + begin, greedy.begin() + end, whole.order.begin() + begin);
        peak = by_greed;
      }
      if (!found.order.empty() && found.peak < as_is) {
        std::copy(found.order.begin(), found.order.end(), whole.order.begin() + begin);
        peak = found.peak;
      }
    }
    whole.peak = std::max(whole.peak, peak);
    whole.bound = std::max(whole.bound, bound);
  }
  whole.proved = whole.peak == whole.bound;
  return whole;
}

}  // namespace venturi
