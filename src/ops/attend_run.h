// Attention's work on one tile of queries: what attend.cc and attend_spilled.cc deal out to
// threads.
#pragma once

#include <algorithm>
#include <cmath>

#include "base/checked.h"
#include "kernels/attention/attention.h"
#include "ops/attend.h"

namespace venturi {

// Consecutive rows of one span whose queries of one KV head are attended together.
struct Tile {
  const Span* span;
  int64_t row;  // in the step
  int64_t n_rows;
};

struct Visible {
  int64_t lo, hi;
};

inline Visible visible(const Span& span, const AttendParams& p, int64_t row) {
  const int64_t position = span.position + row - span.row_begin;
  if (p.full || span.mask == Mask::kFull) return {0, span.position + span.n_rows};
  return {p.window > 0 ? std::max<int64_t>(0, position - p.window + 1) : 0, position + 1};
}

// Scratch of one task, carved from one block.
struct TaskScratch {
  float *queries, *lanes, *top, *sum, *out, *part_top, *part_sum, *part_out;
  int64_t *lo, *hi;
  const float** rows;  // of the queries
  uint16_t* values;    // of one page, where the state has none

  static int64_t floats(int n_queries, int k_dim, int v_stride, bool values_in_keys) {
    return int64_t{n_queries} * (k_dim + 16 + 2 + v_stride + 2 + v_stride + 6) + 16 +
           (values_in_keys ? value_page_elems(v_stride) / 2 : 0);
  }
  TaskScratch(float* base, int n, int k_dim, int v_stride) {
    lo = reinterpret_cast<int64_t*>(base);
    hi = lo + n;
    rows = reinterpret_cast<const float**>(hi + n);
    queries = reinterpret_cast<float*>(rows + n);
    lanes = queries + int64_t{n} * k_dim;
    top = lanes + 16 * n;
    sum = top + n;
    out = sum + n;
    part_top = out + int64_t{n} * v_stride;
    part_sum = part_top + n;
    part_out = part_sum + n;
    values = reinterpret_cast<uint16_t*>(part_out + int64_t{n} * v_stride);
  }
  // The same, for queries from `first` on.
  TaskScratch from(int first, int k_dim, int v_stride) const {
    TaskScratch s = *this;
    s.lo += first, s.hi += first, s.rows += first;
    s.queries += int64_t{first} * k_dim;
    s.lanes += 16 * first;
    s.top += first, s.sum += first, s.part_top += first, s.part_sum += first;
    s.out += int64_t{first} * v_stride, s.part_out += int64_t{first} * v_stride;
    return s;
  }
};

class AttendRun {
 public:
  AttendRun(Context& context, const Step& step, const AttendParams& p, Act& q, Act& k, const Act& v,
            Act& y)
      : context_(context),
        step_(step),
        p_(p),
        q_(q),
        k_(k),
        v_(v),
        y_(y),
        group_(p.n_heads / p.n_kv_heads),
        v_stride_(value_stride(p.v_dim)) {}

  // Rotates queries and keys, and writes keys and values to the state.
  void store(float* angles) {
    const int64_t half = p_.rope ? p_.rope->dims() / 2 : 0;
    context_.pool().parallel_for(step_.n_rows(), 4, [&](int64_t begin, int64_t end, int) {
      for (int64_t row = begin; row < end; ++row) {
        const Span& span = span_of(row);
        const int64_t position = span.position + row - span.row_begin;
        if (half > 0) {
          float* table = angles + row * 4 * half;
          p_.rope->table(position, table, table + half);
          for (int h = 0; h < p_.n_heads; ++h)
            p_.rope->rotate(q_.row(row) + h * p_.k_dim, table, table + half, table + 2 * half);
          for (int h = 0; h < p_.n_kv_heads; ++h)
            p_.rope->rotate(k_.row(row) + h * p_.k_dim, table, table + half, table + 2 * half);
        }
        const int64_t block = position / kPageTokens;
        const int token = static_cast<int>(position % kPageTokens);
        for (int h = 0; h < p_.n_kv_heads; ++h) {
          attention_kernels().store_key(k_.row(row) + h * p_.k_dim, p_.k_dim, token,
                                        span.state->key_page(p_.slot, block, h));
          if (!p_.values_in_keys)
            attention_kernels().store_value(v_.row(row) + h * p_.v_dim, p_.v_dim, token,
                                            span.state->value_page(p_.slot, block, h));
        }
      }
    });
  }

  // Queries of `tile` and head `head`, transposed and scaled.
  void load_queries(const Tile& tile, int head, const TaskScratch& s) const {
    const int n = static_cast<int>(tile.n_rows) * group_;
    for (int64_t r = 0; r < tile.n_rows; ++r) {
      const Visible seen = visible(*tile.span, p_, tile.row + r);
      for (int g = 0; g < group_; ++g) {
        const int i = static_cast<int>(r) * group_ + g;
        s.lo[i] = seen.lo;
        s.hi[i] = seen.hi;
        s.rows[i] = q_.row(tile.row + r) + int64_t{head * group_ + g} * p_.k_dim;
      }
    }
    attention_kernels().pack_queries(
        s.rows, n, p_.k_dim, p_.soft_cap > 0 ? p_.scale : p_.scale * 1.44269504f, s.queries);
  }

  // A tile of few queries on one thread, for heads [head_begin, head_end): page by page through all
  // of them, which is the order they lie in, so that decoding reads memory as nearly one stream.
  void run_heads(const Tile& tile, int head_begin, int head_end, float* scratch) const {
    const int n = static_cast<int>(tile.n_rows) * group_, heads = head_end - head_begin;
    const TaskScratch all(scratch, n * heads, p_.k_dim, v_stride_);
    for (int h = 0; h < heads; ++h)
      load_queries(tile, head_begin + h, all.from(h * n, p_.k_dim, v_stride_));
    const int64_t seen = ceil_div(all.hi[n - 1], kPageTokens), first = first_split(all);
    for (int64_t split = first; split < end_split(all, n); ++split) {
      const bool merged = split > first;
      const int64_t begin = first_block(all, split),
                    end = std::min((split + 1) * kBlocksPerSplit, seen);
      for (int64_t block = begin; block < end; ++block)
        for (int h = 0; h < heads; ++h) {
          const TaskScratch s = all.from(h * n, p_.k_dim, v_stride_);
          const bool last = h + 1 == heads;
          const uint16_t *keys, *values = nullptr, *next = nullptr;
          page_of(tile, block, head_begin + h, keys, values);
          if (!last || block + 1 < seen) {
            const uint16_t* next_values;
            page_of(tile, block + last, head_begin + (last ? 0 : h + 1), next, next_values);
          }
          attention_kernels().split({.keys = &keys,
                                     .values = values ? &values : nullptr,
                                     .first_key = block * kPageTokens,
                                     .n_blocks = 1,
                                     .n_queries = n,
                                     .k_dim = p_.k_dim,
                                     .v_dim = p_.v_dim,
                                     .queries = s.queries,
                                     .lo = s.lo,
                                     .hi = s.hi,
                                     .soft_cap = p_.soft_cap,
                                     .top = merged ? s.part_top : s.top,
                                     .sum = merged ? s.part_sum : s.sum,
                                     .out = merged ? s.part_out : s.out,
                                     .lanes = s.lanes,
                                     .value_scratch = s.values,
                                     .next_keys = next,
                                     .begun = block > begin,
                                     .unfinished = block + 1 < end});
        }
      for (int i = 0; i < n * heads && merged; ++i)
        attention_kernels().merge(&all.top[i], &all.sum[i], all.out + int64_t{i} * v_stride_,
                                  all.part_top[i], all.part_sum[i],
                                  all.part_out + int64_t{i} * v_stride_, v_stride_);
    }
    for (int i = 0; i < n * heads; ++i)
      finish(tile, head_begin + i / n, i % n, all.top[i], all.sum[i],
             all.out + int64_t{i} * v_stride_);
  }

  // Split `split` for the tile's queries, into top / sum / out. What of it is not in memory is at
  // `fetched`.
  void run_split(const Tile& tile, int head, int64_t split, const TaskScratch& s, float* top,
                 float* sum, float* out, const uint8_t* fetched = nullptr) const {
    const int n = static_cast<int>(tile.n_rows) * group_;
    const int64_t first = first_block(s, split);
    const int64_t seen = ceil_div(s.hi[n - 1], kPageTokens),
                  end = std::min((split + 1) * kBlocksPerSplit, seen);
    const uint16_t *keys[kBlocksPerSplit], *values[kBlocksPerSplit];
    for (int64_t b = first; b < end; ++b)
      page_of(tile, b, head, keys[b - first], values[b - first], fetched);
    const bool more = end < seen && end >= tile.span->state->spilled(p_.slot);
    attention_kernels().split(
        {.keys = keys,
         .values = p_.values_in_keys ? nullptr : values,
         .first_key = first * kPageTokens,
         .n_blocks = static_cast<int>(end - first),
         .n_queries = n,
         .k_dim = p_.k_dim,
         .v_dim = p_.v_dim,
         .queries = s.queries,
         .lo = s.lo,
         .hi = s.hi,
         .soft_cap = p_.soft_cap,
         .top = top,
         .sum = sum,
         .out = out,
         .lanes = s.lanes,
         .value_scratch = s.values,
         .next_keys = more ? tile.span->state->key_page(p_.slot, end, head) : nullptr});
  }

  // Writes query i of the tile: sink and division.
  void finish(const Tile& tile, int head, int i, float top, float sum, const float* out) const {
    const int h = head * group_ + i % group_;
    float factor = 1;
    if (p_.sinks) {
      const float sink = p_.sinks[h] * 1.44269504f, new_top = std::max(top, sink);
      factor = std::exp2(top - new_top);
      sum = sum * factor + std::exp2(sink - new_top);
    }
    float* y = y_.row(tile.row + i / group_) + int64_t{h} * p_.v_dim;
    const float inverse = sum > 0 ? factor / sum : 0.0f;
    for (int d = 0; d < p_.v_dim; ++d) y[d] = out[d] * inverse;
  }

  // A block that no query of the tile sees, which may be gone, would change nothing.
  static int64_t first_block(const TaskScratch& s, int64_t split) {
    return std::max(split * kBlocksPerSplit, s.lo[0] / kPageTokens);
  }
  // Splits [first, end) hold what the tile sees.
  static int64_t first_split(const TaskScratch& s) { return s.lo[0] / kSplitTokens; }
  static int64_t end_split(const TaskScratch& s, int n) {
    return ceil_div(s.hi[n - 1], kSplitTokens);
  }

  // A whole tile on one thread: splits in order.
  void run_tile(const Tile& tile, int head, float* scratch) const {
    const int n = static_cast<int>(tile.n_rows) * group_;
    const TaskScratch s(scratch, n, p_.k_dim, v_stride_);
    load_queries(tile, head, s);
    const int64_t first = first_split(s), end = end_split(s, n);
    run_split(tile, head, first, s, s.top, s.sum, s.out);
    for (int64_t split = first + 1; split < end; ++split) {
      run_split(tile, head, split, s, s.part_top, s.part_sum, s.part_out);
      for (int i = 0; i < n; ++i)
        attention_kernels().merge(&s.top[i], &s.sum[i], s.out + int64_t{i} * v_stride_,
                                  s.part_top[i], s.part_sum[i], s.part_out + int64_t{i} * v_stride_,
                                  v_stride_);
    }
    for (int i = 0; i < n; ++i)
      finish(tile, head, i, s.top[i], s.sum[i], s.out + int64_t{i} * v_stride_);
  }

  // `fetched`: the split that block is in, where it is not in memory.
  void page_of(const Tile& tile, int64_t block, int head, const uint16_t*& keys,
               const uint16_t*& values, const uint8_t* fetched = nullptr) const {
    const SequenceState& state = *tile.span->state;
    const int64_t key_elems = key_page_elems(p_.k_dim),
                  value_elems = p_.values_in_keys ? 0 : value_page_elems(p_.v_dim);
    keys = fetched && block < state.spilled(p_.slot)
               ? reinterpret_cast<const uint16_t*>(fetched + block % kBlocksPerSplit *
                                                                 state.page_stride(p_.slot)) +
                     head * (key_elems + value_elems)
               : state.key_page(p_.slot, block, head);
    values = p_.values_in_keys ? nullptr : keys + key_elems;
  }

  const AttendParams& params() const { return p_; }
  int group() const { return group_; }
  int v_stride() const { return v_stride_; }

 private:
  const Span& span_of(int64_t row) const {
    size_t i = 0;
    while (row >= step_.spans[i].row_begin + step_.spans[i].n_rows) ++i;
    return step_.spans[i];
  }

  Context& context_;
  const Step& step_;
  const AttendParams& p_;
  Act &q_, &k_;
  const Act& v_;
  Act& y_;
  const int group_, v_stride_;
};

// Floats of the top, sum and out of so many queries.
inline int64_t part_floats(int64_t n_queries, int v_stride) { return n_queries * (2 + v_stride); }

}  // namespace venturi
