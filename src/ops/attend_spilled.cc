#include "ops/attend_spilled.h"

namespace venturi {

namespace {

// With few tiles and heads, threads take different splits: a wave of so many at once, whose parts
// wait until one thread merges them in order.
constexpr int64_t kMostSplits = 4;

int64_t wave_of(int64_t tiles, int64_t heads, int threads) {
  return std::clamp<int64_t>(ceil_div(2 * threads, tiles * heads), 1, kMostSplits);
}

struct Part {
  float *top, *sum, *out;
};

// One span.
class SpilledSpan {
 public:
  SpilledSpan(Context& context, const AttendRun& run, std::span<const Tile> tiles,
              Act& task_scratch, float* scratch)
      : context_(context),
        run_(run),
        tiles_(tiles),
        task_scratch_(task_scratch),
        state_(*tiles[0].span->state),
        heads_(run.params().n_kv_heads),
        wave_(wave_of(static_cast<int64_t>(tiles.size()), heads_, context.threads())),
        floats_(part_floats(tiles[0].span->n_rows * run.params().n_heads, run.v_stride())),
        done_(scratch) {}

  Status run() {
    const int slot = run_.params().slot;
    const int64_t end = end_of(tiles_.back());
    const int64_t in_file = ceil_div(state_.spilled(slot), kBlocksPerSplit);
    const int64_t at_once = std::min<int64_t>(wave_, state_.fetches());
    for (int64_t split = 0; split < end;) {
      // Those in memory alone need no waiting for one another, unless threads share a tile's.
      const int64_t n = split < in_file ? std::min(at_once, in_file - split)
                        : wave_ > 1     ? std::min(wave_, end - split)
                                        : end - split;
      const uint8_t* fetched[kMostSplits] = {};
      for (int64_t i = 0; i < n && split + i < in_file; ++i) {
        auto pages = state_.fetch(slot, split + i);
        if (!pages) {
          for (; i > 0; --i) state_.release();
          return std::move(pages).error();
        }
        fetched[i] = *pages;
      }
      if (wave_ > 1) {
        side_by_side(split, n, fetched);
      } else {
        one_after_another(split, n, fetched[0]);
      }
      for (int64_t i = 0; i < n && split + i < in_file; ++i) state_.release();
      split += n;
    }
    each([&](const Tile& tile, int head, int) {
      const Part a = part(done_, tile, head);
      for (int i = 0; i < queries(tile); ++i)
        run_.finish(tile, head, i, a.top[i], a.sum[i], a.out + int64_t{i} * run_.v_stride());
    });
    return {};
  }

 private:
  // Splits [first, end) hold what a tile sees.
  int64_t first_of(const Tile& tile) const {
    return visible(*tile.span, run_.params(), tile.row).lo / kSplitTokens;
  }
  int64_t end_of(const Tile& tile) const {
    return ceil_div(visible(*tile.span, run_.params(), tile.row + tile.n_rows - 1).hi,
                    kSplitTokens);
  }
  int queries(const Tile& tile) const { return static_cast<int>(tile.n_rows) * run_.group(); }
  TaskScratch task(const Tile& tile, int head, int worker) const {
    const TaskScratch s(task_scratch_.row(worker), queries(tile), run_.params().k_dim,
                        run_.v_stride());
    run_.load_queries(tile, head, s);
    return s;
  }
  Part part(float* base, const Tile& tile, int head) const {
    const int64_t before =
        (tile.row - tiles_[0].row) * run_.params().n_heads + int64_t{head} * queries(tile);
    float* at = base + part_floats(before, run_.v_stride());
    return {at, at + queries(tile), at + 2 * queries(tile)};
  }
  // body(tile, head, worker) for all of them.
  template <typename Body>
  void each(Body body) const {
    context_.pool().parallel_for(static_cast<int64_t>(tiles_.size()) * heads_, 1,
                                 [&](int64_t begin, int64_t end, int worker) {
                                   for (int64_t i = begin; i < end; ++i)
                                     body(tiles_[i / heads_], static_cast<int>(i % heads_), worker);
                                 });
  }
  void merge(const Tile& tile, const Part& a, const Part& b) const {
    const int stride = run_.v_stride();
    for (int i = 0; i < queries(tile); ++i)
      attention_kernels().merge(&a.top[i], &a.sum[i], a.out + int64_t{i} * stride, b.top[i],
                                b.sum[i], b.out + int64_t{i} * stride, stride);
  }

  void one_after_another(int64_t split, int64_t n, const uint8_t* fetched) const {
    each([&](const Tile& tile, int head, int worker) {
      const TaskScratch s = task(tile, head, worker);
      const Part a = part(done_, tile, head), b{s.part_top, s.part_sum, s.part_out};
      const int64_t first = first_of(tile), end = std::min(split + n, end_of(tile));
      for (int64_t i = std::max(split, first); i < end; ++i) {
        const Part& to = i == first ? a : b;
        run_.run_split(tile, head, i, s, to.top, to.sum, to.out, fetched);
        if (i > first) merge(tile, a, b);
      }
    });
  }

  void side_by_side(int64_t split, int64_t n, const uint8_t* const* fetched) const {
    const int64_t items = static_cast<int64_t>(tiles_.size()) * heads_;
    context_.pool().parallel_for(n * items, 1, [&](int64_t begin, int64_t end, int worker) {
      for (int64_t at = begin; at < end; ++at) {
        const int64_t i = at / items, item = at % items;
        const Tile& tile = tiles_[item / heads_];
        const int head = static_cast<int>(item % heads_);
        const int64_t first = first_of(tile);
        if (split + i < first || split + i >= end_of(tile)) continue;
        const TaskScratch s = task(tile, head, worker);
        const Part to = part(split + i == first ? done_ : done_ + (1 + i) * floats_, tile, head);
        run_.run_split(tile, head, split + i, s, to.top, to.sum, to.out, fetched[i]);
      }
    });
    each([&](const Tile& tile, int head, int) {
      for (int64_t i = 0; i < n; ++i)
        if (split + i > first_of(tile) && split + i < end_of(tile))
          merge(tile, part(done_, tile, head), part(done_ + (1 + i) * floats_, tile, head));
    });
  }

  Context& context_;
  const AttendRun& run_;
  const std::span<const Tile> tiles_;
  Act& task_scratch_;
  SequenceState& state_;
  const int heads_;
  const int64_t wave_, floats_;
  float* const done_;  // of all queries; behind it, the parts of a wave
};

}  // namespace

int64_t spill_scratch_floats(const Step& step, const AttendParams& p, int64_t rows_per_tile,
                             int threads) {
  int64_t most = 0;
  for (const Span& span : step.spans) {
    if (span.state ? !span.state->may_spill(p.slot) : !step.spills || p.window > 0) continue;
    const int64_t wave = wave_of(ceil_div(span.n_rows, rows_per_tile), p.n_kv_heads, threads);
    most = std::max(most, part_floats(span.n_rows * p.n_heads, value_stride(p.v_dim)) *
                              (wave > 1 ? 1 + wave : 1));
  }
  return most;
}

void attend_spilled(Context& context, const AttendRun& run, std::span<const Tile> tiles,
                    Act& task_scratch, float* scratch) {
  while (!tiles.empty()) {
    size_t n = 1;
    while (n < tiles.size() && tiles[n].span == tiles[0].span) ++n;
    if (Status status = SpilledSpan(context, run, tiles.first(n), task_scratch, scratch).run();
        !status)
      return context.fail(std::move(status).error());
    tiles = tiles.subspan(n);
  }
}

}  // namespace venturi
