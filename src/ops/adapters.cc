#include "ops/adapters.h"

#include <algorithm>
#include <array>
#include <cassert>

#include "base/checked.h"
#include "kernels/low_rank/low_rank.h"

namespace venturi {

namespace {

// Rows that one item of work takes, and groups of outputs.
constexpr int64_t kRowTile = 32, kGroupRun = 32;

// Rows of x with one adapter that changes a weight.
struct Job {
  const LowRankUpdate* update;
  const Weight* weight;
  float* y;                    // row 0 of the weight's product
  std::span<const int32_t> rows;
  // Of each row: the sums of its slices, [slices][padded rank], the first of which becomes scale * u.
  float* sums;
  int64_t slices;
  int64_t tiles() const { return ceil_div(static_cast<int64_t>(rows.size()), kRowTile); }
  int64_t groups() const { return ceil_div(weight->n_out, kGroupRows); }
  int64_t sums_per_row() const { return slices * update->padded_rank(); }
};

// Rows of x, by adapter in the order of their first.
struct RowsOf {
  const Adapter* adapter;
  std::vector<int32_t> rows;
};

std::vector<RowsOf> by_adapter(std::span<const Adapter* const> of_row) {
  std::vector<RowsOf> runs;
  for (size_t r = 0; r < of_row.size(); ++r) {
    if (!of_row[r]) continue;
    auto at = std::find_if(runs.begin(), runs.end(), [&](const RowsOf& run) { return run.adapter == of_row[r]; });
    if (at == runs.end()) at = runs.insert(runs.end(), {of_row[r], {}});
    at->rows.push_back(static_cast<int32_t>(r));
  }
  return runs;
}

// Floats of scratch that `rows` rows take at most, whichever adapters they have.
int64_t scratch_floats(const AdapterSet& set, std::span<const Weight* const> weights, int64_t rows) {
  int64_t floats = 0;
  for (const Weight* w : weights) floats += rows * ceil_div(w->n_in, kAdapterSlice) * set.padded_rank(w);
  return floats;
}

OpCost cost_of(std::span<const RowsOf> runs, std::span<const Weight* const> weights) {
  OpCost cost{.op = "adapters"};
  for (const RowsOf& run : runs)
    for (const Weight* w : weights)
      if (const LowRankUpdate* update = run.adapter->find(w)) {
        cost.weight_bytes += update->bytes;
        cost.f32_macs += static_cast<uint64_t>(static_cast<int64_t>(run.rows.size()) * update->rank * (w->n_in + w->n_out));
      }
  return cost;
}

struct Tile {
  const Job* job;
  int64_t begin, end;  // of its rows
};
Tile tile_of(const Job& job, int64_t tile) {
  return {&job, tile * kRowTile, std::min<int64_t>(static_cast<int64_t>(job.rows.size()), (tile + 1) * kRowTile)};
}

// A slice of A x.
void reduce(const Tile& tile, const Act& x, int64_t slice) {
  const Job& job = *tile.job;
  const LowRankUpdate& u = *job.update;
  std::array<const float*, kRowTile> in;
  std::array<float*, kRowTile> out;
  for (int64_t i = tile.begin; i < tile.end; ++i) {
    in[i - tile.begin] = x.row(job.rows[i]);
    out[i - tile.begin] = job.sums + i * job.sums_per_row() + slice * u.padded_rank();
  }
  low_rank_table().run[static_cast<int>(u.a_format)]({.weights = u.a, .n = u.padded_rank(), .k = job.weight->n_in,
                                                      .group_begin = 0, .group_end = u.padded_rank() / kGroupRows,
                                                      .k_begin = slice * kAdapterSlice,
                                                      .k_end = std::min(job.weight->n_in, (slice + 1) * kAdapterSlice),
                                                      .rows = tile.end - tile.begin, .x = in.data(), .y = out.data()});
}

// The slices of a row together, and scaled.
void add_slices(const Job& job, int64_t row) {
  const int64_t n = job.update->padded_rank();
  float* sums = job.sums + row * job.sums_per_row();
  for (int64_t j = 0; j < n; ++j) {
    float sum = sums[j];
    for (int64_t s = 1; s < job.slices; ++s) sum += sums[s * n + j];
    sums[j] = sum * job.update->scale;
  }
}

// y += B u for a run of groups of outputs.
void expand(const Tile& tile, int64_t run) {
  const Job& job = *tile.job;
  const LowRankUpdate& u = *job.update;
  std::array<const float*, kRowTile> in;
  std::array<float*, kRowTile> out;
  for (int64_t i = tile.begin; i < tile.end; ++i) {
    in[i - tile.begin] = job.sums + i * job.sums_per_row();
    out[i - tile.begin] = job.y + job.rows[i] * job.weight->n_out;
  }
  low_rank_table().run[static_cast<int>(u.b_format)]({.weights = u.b, .n = job.weight->n_out, .k = u.rank,
                                                      .group_begin = run * kGroupRun,
                                                      .group_end = std::min(job.groups(), (run + 1) * kGroupRun),
                                                      .k_begin = 0, .k_end = u.rank,
                                                      .rows = tile.end - tile.begin, .x = in.data(), .y = out.data(),
                                                      .add = true});
}

// body(job, i) for the i below count(job) of every job, over the pool.
template <typename Count, typename Body>
void for_each(Context& context, std::span<const Job> jobs, int64_t grain, Count count, Body body) {
  std::vector<int64_t> begins;
  int64_t total = 0;
  for (const Job& job : jobs) {
    begins.push_back(total);
    total += count(job);
  }
  context.pool().parallel_for(total, grain, [&](int64_t begin, int64_t end, int) {
    auto at = static_cast<size_t>(std::upper_bound(begins.begin(), begins.end(), begin) - begins.begin()) - 1;
    for (int64_t i = begin; i < end; ++i) {
      while (at + 1 < jobs.size() && i >= begins[at + 1]) ++at;
      body(jobs[at], i - begins[at]);
    }
  });
}

}  // namespace

void set_row_adapters(Context& context, const Step& step) {
  std::vector<const Adapter*> of_row;
  const auto has = [](const Span& span) { return span.adapter != nullptr; };
  if (std::any_of(step.spans.begin(), step.spans.end(), has)) {
    of_row.resize(static_cast<size_t>(step.n_rows()));
    for (const Span& span : step.spans) std::fill_n(of_row.begin() + span.row_begin, span.n_rows, span.adapter);
  }
  context.set_row_adapters(std::move(of_row));
}

void add_adapters(Context& context, std::span<const Weight* const> weights, const Act& x, std::vector<Act>& outputs) {
  const AdapterSet* set = context.adapters();
  if (!set || std::none_of(weights.begin(), weights.end(), [&](const Weight* w) { return set->padded_rank(w) > 0; })) return;
  const auto of_row = context.row_adapters();
  if (of_row.empty() && context.computes()) return;
  Act scratch = context.allocate(1, scratch_floats(*set, weights, x.rows()));
  const std::vector<RowsOf> runs = by_adapter(of_row);
  if (runs.empty()) return;
  assert(static_cast<int64_t>(of_row.size()) == x.rows());
  const Context::Scope scope(context, cost_of(runs, weights), {&x});
  for (const Act& output : outputs) context.also_writes(output);
  if (!scope.computes()) return;

  std::vector<Job> jobs;
  float* sums = scratch.data();
  for (const RowsOf& run : runs)
    for (size_t i = 0; i < weights.size(); ++i)
      if (const LowRankUpdate* update = run.adapter->find(weights[i])) {
        jobs.push_back({update, weights[i], outputs[i].data(), run.rows, sums, ceil_div(weights[i]->n_in, kAdapterSlice)});
        sums += static_cast<int64_t>(run.rows.size()) * jobs.back().sums_per_row();
      }
  for_each(context, jobs, 1, [](const Job& job) { return job.tiles() * job.slices; },
           [&](const Job& job, int64_t i) { reduce(tile_of(job, i / job.slices), x, i % job.slices); });
  for_each(context, jobs, 64, [](const Job& job) { return static_cast<int64_t>(job.rows.size()); }, add_slices);
  for_each(context, jobs, 1, [](const Job& job) { return job.tiles() * ceil_div(job.groups(), kGroupRun); },
           [](const Job& job, int64_t i) {
             const int64_t runs_of_groups = ceil_div(job.groups(), kGroupRun);
             expand(tile_of(job, i / runs_of_groups), i % runs_of_groups);
           });
}

}  // namespace venturi
