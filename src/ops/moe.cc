#include "ops/moe.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include "kernels/rows/rows.h"
#include "ops/linear.h"

namespace venturi {

namespace {

// The k best of n scores, best first; scores of what must not be chosen are -infinity. Whatever the
// scores (even NaN), k different indices come out.
void choose(const float* scores, int64_t n, int64_t k, std::vector<char>& taken, int32_t* out) {
  taken.assign(static_cast<size_t>(n), 0);
  for (int64_t i = 0; i < k; ++i) {
    int64_t best = -1;
    for (int64_t e = 0; e < n; ++e)
      if (!taken[e] && (best < 0 || scores[e] > scores[best])) best = e;
    taken[best] = 1;
    out[i] = static_cast<int32_t>(best);
  }
}

struct RouterScratch {
  std::vector<float> scores, groups;
  std::vector<char> taken;
  std::vector<int32_t> kept;
};

// Closes the experts of groups that were not kept.
void limit_groups(const RouterParams& p, RouterScratch& s) {
  const int64_t size = p.n_experts / p.n_groups;
  s.groups.resize(static_cast<size_t>(p.n_groups));
  for (int64_t g = 0; g < p.n_groups; ++g) {
    float first = -std::numeric_limits<float>::infinity(), second = first;
    for (int64_t e = g * size; e < (g + 1) * size; ++e) {
      const float score = s.scores[e];
      if (score > first) {
        second = first;
        first = score;
      } else if (score > second) {
        second = score;
      }
    }
    s.groups[g] = p.selection_bias && size > 1 ? first + second : first;
  }
  s.kept.resize(static_cast<size_t>(p.n_groups_used));
  choose(s.groups.data(), p.n_groups, p.n_groups_used, s.taken, s.kept.data());
  for (int64_t g = 0; g < p.n_groups; ++g)
    if (!s.taken[g])
      std::fill_n(s.scores.begin() + g * size, size, -std::numeric_limits<float>::infinity());
}

void route_row(const RouterParams& p, float* logits, RouterScratch& s, int32_t* expert,
               float* weight) {
  if (p.gate == RouterParams::Gate::kSoftmax) row_kernels().softmax_three_pass(logits, p.n_experts);
  if (p.gate == RouterParams::Gate::kSigmoid)
    for (int64_t e = 0; e < p.n_experts; ++e) logits[e] = 1.0f / (1.0f + std::exp(-logits[e]));
  s.scores.assign(logits, logits + p.n_experts);
  if (p.selection_bias)
    for (int64_t e = 0; e < p.n_experts; ++e) s.scores[e] += p.selection_bias->data()[e];
  if (p.n_groups > 1) limit_groups(p, s);
  choose(s.scores.data(), p.n_experts, p.top_k, s.taken, expert);
  for (int64_t i = 0; i < p.top_k; ++i) weight[i] = logits[expert[i]];
  if (p.gate == RouterParams::Gate::kSoftmaxChosen) row_kernels().softmax_three_pass(weight, p.top_k);
  float factor = p.scale;
  if (p.normalise) {
    float sum = 0;
    for (int64_t i = 0; i < p.top_k; ++i) sum += weight[i];
    factor /= std::max(sum, 1e-20f);
  }
  for (int64_t i = 0; i < p.top_k; ++i) weight[i] *= factor;
}

// Choices, as indices into Routes::expert, in order of expert: those of expert e are
// [begin[e], begin[e + 1]).
struct ByExpert {
  std::vector<int64_t> begin, choices;
};

ByExpert sort_by_expert(const Routes& routes, int64_t n_experts) {
  ByExpert sorted;
  sorted.begin.assign(static_cast<size_t>(n_experts) + 1, 0);
  for (const int32_t e : routes.expert) ++sorted.begin[e + 1];
  for (int64_t e = 0; e < n_experts; ++e) sorted.begin[e + 1] += sorted.begin[e];
  sorted.choices.resize(routes.expert.size());
  std::vector<int64_t> next(sorted.begin.begin(), sorted.begin.end() - 1);
  for (size_t i = 0; i < routes.expert.size(); ++i)
    sorted.choices[next[routes.expert[i]]++] = static_cast<int64_t>(i);
  return sorted;
}

Act run_expert(Context& context, const ExpertWeights& w, int64_t expert, const Act& x,
               std::span<const int64_t> rows) {
  Act gathered = take_rows(context, x, rows);
  const Weight* both[] = {w.gate, w.up};
  auto hidden = linear_planes(context, both, expert, gathered, Use::kRouted);
  gathered.reset();
  gated_in_place(context, w.activation, hidden[0], &hidden[1]);
  hidden[1].reset();
  return linear_plane(context, *w.down, expert, hidden[0], Use::kRouted);
}

// The experts that rows chose, in the order in which they will be run.
std::vector<int32_t> order_experts(Context& context, const ExpertWeights& w, const Routes& routes, bool ahead) {
  std::vector<int32_t> order;
  std::vector<char> seen(static_cast<size_t>(w.gate->n_planes));
  for (const int32_t e : routes.expert)
    if (!std::exchange(seen[static_cast<size_t>(e)], 1)) order.push_back(e);
  if (context.computes() && w.gate->residency) {
    w.gate->residency->begin_experts(*w.gate, order, static_cast<int64_t>(routes.expert.size()), ahead);
  } else {
    std::sort(order.begin(), order.end());
  }
  return order;
}

// Tells who keeps the experts which of them come, in the order in which run_expert takes them.
void hint_experts(const ExpertWeights& w, const std::vector<int32_t>& order) {
  std::vector<Region> regions;
  for (const int32_t e : order)
    for (const Weight* weight : {w.gate, w.up, w.down}) regions.push_back({weight, e});
  std::vector<Residency*> told;
  for (const Weight* weight : {w.gate, w.up, w.down}) {
    Residency* residency = weight->residency;
    if (!residency || std::find(told.begin(), told.end(), residency) != told.end()) continue;
    residency->hint(regions);
    told.push_back(residency);
  }
}

// What an expert needs that every row chose: a step may route so, and the plan must hold it.
uint64_t largest_expert(Context& context, const ExpertWeights& w, int64_t rows) {
  return context.workspace_bytes(&w, rows, [&](Context& shape) {
    const Act x = shape.allocate(rows, w.gate->n_in);
    const std::vector<int64_t> all(static_cast<size_t>(rows));
    (void)run_expert(shape, w, 0, x, all);
  });
}

}  // namespace

Routes route(Context& context, const RouterParams& p, Act& logits) {
  const int64_t rows = logits.rows();
  Routes routes;
  routes.top_k = p.top_k;
  routes.expert.resize(static_cast<size_t>(rows * p.top_k));
  routes.weight.resize(static_cast<size_t>(rows * p.top_k));
  const Context::Scope scope(context, {.op = "route"}, {}, {&logits});
  routes.op = context.last_op();
  if (!scope.computes()) {
    for (size_t i = 0; i < routes.expert.size(); ++i)
      routes.expert[i] = static_cast<int32_t>(static_cast<int64_t>(i) % p.n_experts);
    return routes;
  }
  context.pool().parallel_for(rows, 16, [&](int64_t begin, int64_t end, int) {
    RouterScratch scratch;
    for (int64_t r = begin; r < end; ++r)
      route_row(p, logits.row(r), scratch, &routes.expert[r * p.top_k],
                &routes.weight[r * p.top_k]);
  });
  return routes;
}

ChosenExperts begin_mixture(Context& context, Routes routes, const ExpertWeights& w, bool ahead) {
  const int64_t k = routes.top_k, rows = static_cast<int64_t>(routes.expert.size()) / k;
  if (context.computes()) {
    if (RouteSource* source = context.route_source()) source->choose(*w.gate, routes.expert.data(), rows, k);
    if (Observer* observer = context.observer()) observer->routed(*w.gate, routes.expert.data(), rows, k);
  }
  std::vector<int32_t> order = order_experts(context, w, routes, ahead);
  if (context.computes()) hint_experts(w, order);
  return {std::move(routes), std::move(order)};
}

Act mixture(Context& context, Act x, const ChosenExperts& chosen, const ExpertWeights& experts) {
  Act y = x.view(0, x.rows());
  mixture_into(context, x, chosen, experts, y);
  return x;
}

// y may be x: all rows are gathered before the first one is written.
void mixture_into(Context& context, const Act& x, const ChosenExperts& chosen, const ExpertWeights& w, Act& y) {
  const Routes& routes = chosen.routes;
  const int64_t rows = x.rows(), k = routes.top_k, d = w.down->n_out;
  Act parts = context.allocate(rows * k, d);  // [rows, top_k, d_model]
  std::optional<Context::Workspace> workspace;
  context.next_follows(routes.op);
  workspace.emplace(context, largest_expert(context, w, rows));
  const ByExpert sorted = sort_by_expert(routes, w.gate->n_planes);
  std::vector<int64_t> chosen_by;
  for (const int32_t e : chosen.order) {
    const int64_t begin = sorted.begin[e], n = sorted.begin[e + 1] - begin;
    chosen_by.clear();
    for (int64_t i = begin; i < begin + n; ++i) chosen_by.push_back(sorted.choices[i] / k);
    const Act out = run_expert(context, w, e, x, chosen_by);
    const Context::Scope scope(context, {.op = "mix"}, {}, {&parts});
    if (!scope.computes()) continue;
    context.pool().parallel_for(n, 8, [&](int64_t from, int64_t to, int) {
      for (int64_t i = from; i < to; ++i)
        std::copy_n(out.row(i), d, parts.row(sorted.choices[begin + i]));
    });
  }
  workspace.reset();
  if (y.rows() == 0) y = context.allocate(rows, d);
  const Context::Scope scope(context, {.op = "mix"}, {&parts}, {&y});
  if (!scope.computes()) return;
  context.pool().parallel_for(rows, 4, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      std::fill_n(y.row(r), d, 0.0f);
      for (int64_t i = 0; i < k; ++i)
        row_kernels().add_scaled(parts.row(r * k + i), routes.weight[r * k + i], d, y.row(r));
    }
  });
}

}  // namespace venturi
