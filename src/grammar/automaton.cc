#include "grammar/automaton.h"

#include <algorithm>
#include <cassert>

namespace venturi::grammar {

namespace {

struct ByteRange {
  uint8_t low, high;
};
using ByteRanges = std::vector<ByteRange>;  // one UTF-8 encoding, byte by byte

int utf8_length(uint32_t c) { return c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4; }

void encode(uint32_t c, int n, uint8_t* out) {
  static constexpr uint8_t kLead[] = {0, 0, 0xC0, 0xE0, 0xF0};
  for (int i = n - 1; i > 0; --i, c >>= 6) out[i] = static_cast<uint8_t>(0x80 | (c & 63));
  out[0] = static_cast<uint8_t>(kLead[n] | c);
}

// Cuts [first, last] until in every part each byte runs over its range whatever the others are.
void utf8_ranges(uint32_t first, uint32_t last, std::vector<ByteRanges>& out) {
  static constexpr uint32_t kEdges[] = {0x7F, 0x7FF, 0xD7FF, 0xDFFF, 0xFFFF};
  if (first >= 0xD800 && last <= 0xDFFF) return;  // surrogates have no encoding
  for (const uint32_t edge : kEdges)
    if (first <= edge && last > edge) {
      utf8_ranges(first, edge, out);
      return utf8_ranges(edge + 1, last, out);
    }
  const int n = utf8_length(first);
  for (int i = 1; i < n; ++i) {
    const uint32_t mask = (1u << (6 * i)) - 1;
    if ((first & ~mask) == (last & ~mask)) continue;
    if ((first & mask) != 0) {
      utf8_ranges(first, first | mask, out);
      return utf8_ranges((first | mask) + 1, last, out);
    }
    if ((last & mask) != mask) {
      utf8_ranges(first, (last & ~mask) - 1, out);
      return utf8_ranges(last & ~mask, last, out);
    }
  }
  uint8_t low[4], high[4];
  encode(first, n, low);
  encode(last, n, high);
  ByteRanges bytes;
  for (int i = 0; i < n; ++i) bytes.push_back({low[i], high[i]});
  out.push_back(std::move(bytes));
}

}  // namespace

class Compiler {
 public:
  explicit Compiler(const Grammar& grammar) : grammar_(grammar), rule_start_(grammar.rules().size(), -1) {}

  Result<std::shared_ptr<const Automaton>> run() {
    if (auto status = check(); !status) return std::move(status).error();
    const int root = root_rule();
    // Rules are compiled as they are first called; calls to be are resolved through rule_start_.
    request(root);
    for (size_t i = 0; i < order_.size(); ++i) {
      const int rule = order_[i];
      const int32_t end = new_state();
      ends_rule_[end] = 1;
      emit(node_of(rule), rule_start_[rule], end);
      if (full_)
        return error(Code::kInvalidArgument,
                     "the grammar needs more than {} states; the rule {} is where they ran out. Repeat less",
                     Automaton::kMaxStates, rule < n_named() ? grammar_.rules()[rule].name : "of a repetition");
    }
    return finish();
  }

 private:
  int n_named() const { return static_cast<int>(grammar_.rules().size()); }
  const Node& node(int i) const { return grammar_.nodes()[i]; }
  int root_rule() const {
    for (int r = 0; r < n_named(); ++r)
      if (grammar_.rules()[r].name == "root") return r;
    return -1;
  }
  // Rules past the named ones are bodies of repetitions.
  int node_of(int rule) const { return rule < n_named() ? grammar_.rules()[rule].node : bodies_[rule - n_named()]; }

  // --- what may be compiled

  Status check() {
    if (root_rule() < 0) return error(Code::kInvalidArgument, "the grammar has no rule named root");
    const size_t n = grammar_.nodes().size();
    productive_.assign(n, 0);
    nullable_.assign(n, 0);
    // What a node is depends on its children and on the rule it refers to: when one of those moves, again.
    std::vector<std::vector<int>> parents(n), referrers(grammar_.rules().size());
    std::vector<std::vector<int>> heads(n);  // rules whose body the node is
    std::vector<int> work;
    for (int i = static_cast<int>(n) - 1; i >= 0; --i) {
      for (const int c : node(i).children) parents[c].push_back(i);
      if (node(i).kind == Node::Kind::kRule) referrers[node(i).rule].push_back(i);
      work.push_back(i);
    }
    for (int r = 0; r < n_named(); ++r)
      if (grammar_.rules()[r].node >= 0) heads[grammar_.rules()[r].node].push_back(r);
    while (!work.empty()) {
      const int i = work.back();
      work.pop_back();
      if (!update(i)) continue;
      work.insert(work.end(), parents[i].begin(), parents[i].end());
      for (const int r : heads[i]) work.insert(work.end(), referrers[r].begin(), referrers[r].end());
    }
    for (const Grammar::Rule& rule : grammar_.rules()) {
      if (rule.node < 0) return error(Code::kInvalidArgument, "the grammar refers to the rule {}, which it does not define", rule.name);
      if (!productive_[rule.node])
        return error(Code::kInvalidArgument, "the rule {} can never end: no text matches it", rule.name);
    }
    std::vector<char> mark(grammar_.rules().size(), 0);
    for (int r = 0; r < n_named(); ++r)
      if (auto status = check_left(r, mark); !status) return status;
    return {};
  }

  bool update(int i) {
    const Node& x = node(i);
    bool productive = false, nullable = false;
    switch (x.kind) {
      case Node::Kind::kBytes: productive = true; nullable = x.bytes.empty(); break;
      case Node::Kind::kClass: productive = has_text(x.ranges); break;
      case Node::Kind::kRule: {
        const int body = grammar_.rules()[x.rule].node;
        if (body >= 0) productive = productive_[body], nullable = nullable_[body];
        break;
      }
      case Node::Kind::kSequence:
        productive = nullable = true;
        for (const int c : x.children) productive &= productive_[c] != 0, nullable &= nullable_[c] != 0;
        break;
      case Node::Kind::kChoice:
        for (const int c : x.children) productive |= productive_[c] != 0, nullable |= nullable_[c] != 0;
        break;
      case Node::Kind::kRepeat:
        productive = x.min == 0 || productive_[x.children[0]];
        nullable = x.min == 0 || nullable_[x.children[0]];
        break;
    }
    const bool moved = productive != (productive_[i] != 0) || nullable != (nullable_[i] != 0);
    productive_[i] = productive;
    nullable_[i] = nullable;
    return moved;
  }

  static bool has_text(const Ranges& ranges) {
    for (const Range& r : ranges)
      if (r.first < 0xD800 || r.last > 0xDFFF) return true;
    return false;
  }

  // Rules that node `i` may call before it has taken a byte.
  void left_calls(int i, std::vector<int>& out) const {
    std::vector<int> work = {i};
    while (!work.empty()) {
      const Node& x = node(work.back());
      work.pop_back();
      if (x.kind == Node::Kind::kRule) out.push_back(x.rule);
      for (const int c : x.children) {
        work.push_back(c);
        if (x.kind == Node::Kind::kSequence && !nullable_[c]) break;
      }
    }
  }

  Status check_left(int rule, std::vector<char>& mark) const {
    // Depth first without recursion: 1 on the path, 2 done.
    std::vector<std::pair<int, std::vector<int>>> path;
    const auto enter = [&](int r) {
      mark[r] = 1;
      path.push_back({r, {}});
      left_calls(grammar_.rules()[r].node, path.back().second);
    };
    if (mark[rule] == 0) enter(rule);
    while (!path.empty()) {
      auto& [r, calls] = path.back();
      if (calls.empty()) {
        mark[r] = 2;
        path.pop_back();
        continue;
      }
      const int next = calls.back();
      calls.pop_back();
      if (mark[next] == 1)
        return error(Code::kInvalidArgument,
                     "the rule {} can call itself before it has taken a character (left recursion); write it as a repetition",
                     grammar_.rules()[next].name);
      if (mark[next] == 0) enter(next);
    }
    return {};
  }

  // --- states

  struct BuildEdge {
    int32_t from;
    Edge edge;
    int call_rule;  // kCall
  };

  int32_t new_state() {
    if (static_cast<int>(ends_rule_.size()) >= Automaton::kMaxStates) {
      full_ = true;
      return 0;
    }
    ends_rule_.push_back(0);
    return static_cast<int32_t>(ends_rule_.size()) - 1;
  }

  void request(int rule) {
    if (rule_start_[rule] >= 0) return;
    rule_start_[rule] = new_state();
    order_.push_back(rule);
  }

  void add(int32_t from, Edge edge, int call_rule = -1) {
    if (edges_.size() < size_t{8} * Automaton::kMaxStates) edges_.push_back({from, edge, call_rule});
    else full_ = true;
  }
  void epsilon(int32_t from, int32_t to) { add(from, {Edge::Kind::kEpsilon, 0, 0, to, -1}); }

  void call(int32_t from, int rule, int32_t to) {
    request(rule);
    add(from, {Edge::Kind::kCall, 0, 0, -1, to}, rule);
  }

  // States and edges for node `i` between two states.
  void emit(int i, int32_t from, int32_t to) {
    if (full_) return;
    const Node& x = node(i);
    switch (x.kind) {
      case Node::Kind::kBytes: return emit_bytes(x.bytes, from, to);
      case Node::Kind::kClass: return emit_class(x.ranges, from, to);
      case Node::Kind::kRule: return call(from, x.rule, to);
      case Node::Kind::kChoice:
        for (const int c : x.children)
          if (productive_[c]) emit(c, from, to);
        return;
      case Node::Kind::kSequence: {
        if (x.children.empty()) return epsilon(from, to);
        int32_t at = from;
        for (size_t c = 0; c < x.children.size(); ++c) {
          const int32_t next = c + 1 == x.children.size() ? to : new_state();
          emit(x.children[c], at, next);
          at = next;
        }
        return;
      }
      case Node::Kind::kRepeat: return emit_repeat(x, from, to);
    }
  }

  void emit_bytes(const std::string& bytes, int32_t from, int32_t to) {
    if (bytes.empty()) return epsilon(from, to);
    int32_t at = from;
    for (size_t b = 0; b < bytes.size(); ++b) {
      const int32_t next = b + 1 == bytes.size() ? to : new_state();
      const auto byte = static_cast<uint8_t>(bytes[b]);
      add(at, {Edge::Kind::kByte, byte, byte, next, -1});
      at = next;
    }
  }

  void emit_class(const Ranges& ranges, int32_t from, int32_t to) {
    std::vector<ByteRanges> encodings;
    for (const Range& r : ranges) utf8_ranges(r.first, r.last, encodings);
    for (const ByteRanges& bytes : encodings) {
      int32_t at = from;
      for (size_t b = 0; b < bytes.size(); ++b) {
        const int32_t next = b + 1 == bytes.size() ? to : new_state();
        add(at, {Edge::Kind::kByte, bytes[b].low, bytes[b].high, next, -1});
        at = next;
      }
    }
  }

  void emit_repeat(const Node& x, int32_t from, int32_t to) {
    // One copy of the body, called from each turn, unless it is a single small thing.
    int child = x.children[0];
    int body = -1;
    if (!productive_[child]) return epsilon(from, to);  // min is 0
    if (x.max == kUnbounded ? x.min > 1 : x.max > 2) {
      if (node(child).kind == Node::Kind::kRule) {
        body = node(child).rule;
      } else if (node(child).kind != Node::Kind::kBytes) {
        bodies_.push_back(child);
        rule_start_.push_back(-1);
        body = n_named() + static_cast<int>(bodies_.size()) - 1;
      }
    }
    const auto once = [&](int32_t a, int32_t b) { body >= 0 ? call(a, body, b) : emit(child, a, b); };
    int32_t at = from;
    for (int i = 0; i < x.min && !full_; ++i) {
      const int32_t next = new_state();
      once(at, next);
      at = next;
    }
    if (x.max == kUnbounded) {
      const int32_t loop = new_state();
      epsilon(at, loop);
      once(loop, loop);
      epsilon(loop, to);
      return;
    }
    for (int i = x.min; i < x.max && !full_; ++i) {
      epsilon(at, to);
      const int32_t next = new_state();
      once(at, next);
      at = next;
    }
    epsilon(at, to);
  }

  Result<std::shared_ptr<const Automaton>> finish() {
    auto out = std::make_shared<Automaton>();
    const size_t n = ends_rule_.size();
    out->start_ = rule_start_[root_rule()];
    out->ends_rule_ = ends_rule_;
    std::stable_sort(edges_.begin(), edges_.end(), [](const BuildEdge& a, const BuildEdge& b) { return a.from < b.from; });
    out->first_edge_.assign(n + 1, 0);
    for (const BuildEdge& e : edges_) ++out->first_edge_[e.from + 1];
    for (size_t s = 0; s < n; ++s) out->first_edge_[s + 1] += out->first_edge_[s];
    out->edges_.reserve(edges_.size());
    for (const BuildEdge& e : edges_) {
      Edge edge = e.edge;
      if (edge.kind == Edge::Kind::kCall) {
        edge.target = rule_start_[e.call_rule];
        if (is_plain_end(edge.back)) edge.back = -1;
      }
      out->edges_.push_back(edge);
    }
    return std::shared_ptr<const Automaton>(std::move(out));
  }

  // Whether nothing is left to do from `state` but to return: a rule's end that nothing leaves, or a
  // single epsilon to such.
  bool is_plain_end(int32_t state) const {
    for (int hops = 0; hops < 64; ++hops) {
      const auto at = std::lower_bound(edges_.begin(), edges_.end(), state,
                                       [](const BuildEdge& e, int32_t s) { return e.from < s; });
      const bool leaves = at != edges_.end() && at->from == state;
      if (ends_rule_[state]) return !leaves;
      if (!leaves || at->edge.kind != Edge::Kind::kEpsilon) return false;
      if (at + 1 != edges_.end() && (at + 1)->from == state) return false;
      state = at->edge.target;
    }
    return false;
  }

  const Grammar& grammar_;
  std::vector<char> productive_, nullable_;  // by node
  std::vector<int32_t> rule_start_;          // by rule, bodies of repetitions after the named ones
  std::vector<int> bodies_;                  // nodes
  std::vector<int> order_;                   // rules to compile
  std::vector<char> ends_rule_;              // by state
  std::vector<BuildEdge> edges_;
  bool full_ = false;
};

Result<std::shared_ptr<const Automaton>> Automaton::compile(const Grammar& grammar) { return Compiler(grammar).run(); }

}  // namespace venturi::grammar
