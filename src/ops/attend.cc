#include "ops/attend.h"

#include <algorithm>

#include "base/checked.h"
#include "kernels/attention/attention.h"
#include "ops/attend_run.h"
#include "ops/attend_spilled.h"

namespace venturi {

namespace {

// Up to this many queries of a head in a tile, reading keys and values is what takes the time.
constexpr int kStreamQueries = 16;

// Few rows over many keys: the splits of a (row, head) go to different threads, and their parts
// wait in `parts` until one thread merges them in order. Which way is taken changes no bit.
struct SplitTask {
  int tile, head;
  int64_t split;
  float* part;  // tops, sums, outs of the tile's queries
};

}  // namespace

int query_tile(int k_dim, int v_dim) {
  // Half of a 512 kB L2 for queries and two outputs, at most 96: past that the traffic saved is
  // below what the causal triangle wastes inside a tile.
  const int fit = (256 << 10) / (4 * (k_dim + 2 * value_stride(v_dim) + 24));
  return std::clamp(fit / 12 * 12, 12, 96);
}

namespace {
// KV heads that one thread takes through the pages together: more than one where all tiles have few
// queries, so that bandwidth is the bound, and where the threads still have equal shares.
int heads_together(const AttendParams& p, const std::vector<Tile>& tiles, int max_queries,
                   int threads) {
  int64_t queries = 1;
  for (const Tile& tile : tiles)
    queries = std::max(queries, tile.n_rows * (p.n_heads / p.n_kv_heads));
  const int64_t fit = std::min<int64_t>(max_queries / queries, p.n_kv_heads);
  if (queries > kStreamQueries || fit < 2) return 1;
  if (static_cast<int64_t>(tiles.size()) >= 4 * threads) return static_cast<int>(fit);
  if (p.n_kv_heads % threads != 0) return 1;
  return static_cast<int>(std::min<int64_t>(fit, p.n_kv_heads / threads));
}
}  // namespace

Act attend(Context& context, const Step& step, const AttendParams& p, Act& q, Act& k,
           const Act& v) {
  const int64_t rows = step.n_rows();
  const int group = p.n_heads / p.n_kv_heads;
  const int v_stride = value_stride(p.v_dim);
  const int max_queries = std::max(query_tile(p.k_dim, p.v_dim), group);
  const int64_t rows_per_tile = std::max<int64_t>(1, max_queries / group);

  // Longest key range of any span, and the work, for cost and scratch.
  uint64_t macs = 0, state_read = 0;
  int64_t split_parts = 0, most_splits = 0;
  std::vector<Tile> tiles, spilled;  // those of a span whose sequence is not all in memory apart
  for (const Span& span : step.spans) {
    const bool in_memory = !span.state || span.state->spilled(p.slot) == 0;
    for (int64_t r = 0; r < span.n_rows; r += rows_per_tile) {
      const Tile tile{&span, span.row_begin + r, std::min(rows_per_tile, span.n_rows - r)};
      const Visible first = visible(span, p, tile.row),
                    last = visible(span, p, tile.row + tile.n_rows - 1);
      (in_memory ? tiles : spilled).push_back(tile);
      state_read += static_cast<uint64_t>(last.hi - first.lo) * p.n_kv_heads *
                    (p.k_dim + (p.values_in_keys ? 0 : v_stride)) * 2;
      const int64_t splits = ceil_div(last.hi, kSplitTokens) - first.lo / kSplitTokens;
      if (in_memory) split_parts += splits * tile.n_rows;
      most_splits = std::max(most_splits, splits);
    }
    for (int64_t r = 0; r < span.n_rows; ++r) {
      const Visible seen = visible(span, p, span.row_begin + r);
      macs += static_cast<uint64_t>(seen.hi - seen.lo) * p.n_heads * (p.k_dim + p.v_dim);
    }
  }
  Act y = context.allocate(rows, int64_t{p.n_heads} * p.v_dim);
  const int64_t task_floats =
      round_up(TaskScratch::floats(max_queries, p.k_dim, v_stride, p.values_in_keys), 16);
  Act scratch = context.allocate(context.threads(), task_floats);
  Act angles = context.allocate(rows, p.rope ? 2 * p.rope->dims() : 0);
  // With enough tiles every thread has whole ones; else splits are dealt out.
  const int range = heads_together(p, tiles, max_queries, context.threads());
  const bool by_split =
      range == 1 && static_cast<int64_t>(tiles.size()) * p.n_kv_heads < 4 * context.threads();
  // Shape mode plans for any step of no more rows: one of fewer tiles may be dealt out where this
  // is not.
  const bool plans = !step.spans.empty() && !step.spans[0].state;
  if (plans)
    split_parts =
        most_splits *
        std::min(rows, rows_per_tile * (ceil_div(4 * context.threads(), p.n_kv_heads) - 1));
  const int64_t part_total =
      by_split || plans ? split_parts * p.n_kv_heads * part_floats(group, v_stride) : 0;
  Act parts = context.allocate(1, part_total);
  Act spill_scratch =
      context.allocate(1, spill_scratch_floats(step, p, rows_per_tile, context.threads()));
  const Context::Scope scope(context,
                             {.op = "attend", .state_bytes = state_read, .f32_macs = macs}, {&v},
                             {&q, &k, &y});
  if (!scope.computes()) return y;

  AttendRun run(context, step, p, q, k, v, y);
  run.store(angles.data());
  if (!spilled.empty()) attend_spilled(context, run, spilled, scratch, spill_scratch.data());

  if (range > 1) {
    const int64_t ranges = ceil_div(p.n_kv_heads, range);
    context.pool().parallel_for(static_cast<int64_t>(tiles.size()) * ranges, 1,
                                [&](int64_t begin, int64_t end, int worker) {
                                  for (int64_t i = begin; i < end; ++i) {
                                    const int first = static_cast<int>(i % ranges) * range;
                                    run.run_heads(tiles[i / ranges], first,
                                                  std::min(first + range, p.n_kv_heads),
                                                  scratch.row(worker));
                                  }
                                });
    return y;
  }

  if (!by_split) {
    const int64_t n = static_cast<int64_t>(tiles.size()) * p.n_kv_heads;
    context.pool().parallel_for(n, 1, [&](int64_t begin, int64_t end, int worker) {
      // Long tiles first: the last ones of a prompt see the most keys.
      for (int64_t i = begin; i < end; ++i) {
        const int64_t at = n - 1 - i;
        run.run_tile(tiles[at / p.n_kv_heads], static_cast<int>(at % p.n_kv_heads),
                     scratch.row(worker));
      }
    });
    return y;
  }

  std::vector<SplitTask> tasks;
  float* next = parts.data();
  for (size_t t = 0; t < tiles.size(); ++t) {
    const Tile& tile = tiles[t];
    const int n = static_cast<int>(tile.n_rows) * group;
    const int64_t first = visible(*tile.span, p, tile.row).lo / kSplitTokens;
    const int64_t end =
        ceil_div(visible(*tile.span, p, tile.row + tile.n_rows - 1).hi, kSplitTokens);
    for (int h = 0; h < p.n_kv_heads; ++h)
      for (int64_t split = first; split < end; ++split) {
        tasks.push_back({static_cast<int>(t), h, split, next});
        next += part_floats(n, v_stride);
      }
  }
  context.pool().parallel_for(static_cast<int64_t>(tasks.size()), 1,
                              [&](int64_t begin, int64_t end, int worker) {
                                for (int64_t i = begin; i < end; ++i) {
                                  const SplitTask& task = tasks[i];
                                  const Tile& tile = tiles[task.tile];
                                  const int n = static_cast<int>(tile.n_rows) * group;
                                  const TaskScratch s(scratch.row(worker), n, p.k_dim, v_stride);
                                  run.load_queries(tile, task.head, s);
                                  run.run_split(tile, task.head, task.split, s, task.part,
                                                task.part + n, task.part + 2 * n);
                                }
                              });
  for (size_t i = 0; i < tasks.size();) {
    const Tile& tile = tiles[tasks[i].tile];
    const int n = static_cast<int>(tile.n_rows) * group;
    float* a = tasks[i].part;
    size_t j = i + 1;
    for (; j < tasks.size() && tasks[j].tile == tasks[i].tile && tasks[j].head == tasks[i].head;
         ++j)
      for (int c = 0; c < n; ++c)
        attention_kernels().merge(&a[c], &a[n + c], a + 2 * n + int64_t{c} * v_stride,
                                  tasks[j].part[c], tasks[j].part[n + c],
                                  tasks[j].part + 2 * n + int64_t{c} * v_stride, v_stride);
    for (int c = 0; c < n; ++c)
      run.finish(tile, tasks[i].head, c, a[c], a[n + c], a + 2 * n + int64_t{c} * v_stride);
    i = j;
  }
  return y;
}

}  // namespace venturi
