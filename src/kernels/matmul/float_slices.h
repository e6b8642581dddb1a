// Several columns of x against 16-bit floats. Included by generic.h.
//
// Turning halves into floats takes two of the instructions that a core can begin in a cycle only where
// the products begin too: done for every tile of columns, it would be a quarter of the time. So a slice
// of a run of groups, kSlice steps of k, is expanded into the L1 cache once for all columns, and the
// sums wait in memory from slice to slice: the same bits, since each still runs over k in order.

constexpr int64_t kSlice = kLanes == 16 ? 128 : 64;
constexpr int kSliceColumns = 96;  // their sums take 24 kB
constexpr int kRunRows = kRunGroups * kGroupRows;

// Columns from which this is faster than a tile that expands as it goes.
constexpr int kSliceFrom = kLanes == 16 ? 9 : 5;

// What the memory is asked for meanwhile: the values of the next slice. Each tile takes a part.
struct NextSlice {
  const char* at;
  int64_t bytes;
};

template <int kGroups, int kColumns, int kPrefetchBytes>
inline void slice_tile(const float* w, int64_t steps, const float* x, int64_t x_step, float* sums, Ahead ahead) {
  F32 acc[kColumns][kGroups * kParts];
  for (int c = 0; c < kColumns; ++c)
    for (int i = 0; i < kGroups * kParts; ++i) acc[c][i] = venturi_isa::load(sums + c * kRunRows + i * kLanes);
  float_tile<FormatF32, kGroups, kColumns, kPrefetchBytes>(w, kGroupRows, kRunRows, steps, x, x_step, 1, acc, ahead);
  for (int c = 0; c < kColumns; ++c)
    for (int i = 0; i < kGroups * kParts; ++i) store(sums + c * kRunRows + i * kLanes, acc[c][i]);
}

// Groups [g_begin, g_end) of the run that `w` holds a slice of.
template <int kColumns>
inline void slice_columns(const float* w, int g_begin, int g_end, int64_t steps, const float* x, int64_t x_step,
                          float* sums, NextSlice& next) {
  constexpr int kGroups = float_tile_groups(kColumns);
  constexpr int kPrefetch = 32 * kGroups < 64 ? 64 : 32 * kGroups;
  for (int g = g_begin; g < g_end;) {
    const float* at = w + g * kGroupRows;
    float* to = sums + g * kGroupRows;
    if (g % kGroups != 0 || g + kGroups > g_end) {
      slice_tile<1, kColumns, 0>(at, steps, x, x_step, to, {});
      ++g;
      continue;
    }
    if (next.bytes > 0) {
      slice_tile<kGroups, kColumns, kPrefetch>(at, steps, x, x_step, to, {next.at, next.bytes - 64});
      next.at += kPrefetch * steps;
      next.bytes -= kPrefetch * steps;
    } else {
      slice_tile<kGroups, kColumns, 0>(at, steps, x, x_step, to, {});
    }
    g += kGroups;
  }
}

template <typename Format>
inline void expand_slice(const typename Format::Value* w, int g_begin, int g_end, int64_t steps, float* out) {
  for (int64_t k = 0; k < steps; ++k)
    for (int i = g_begin * kGroupRows; i < g_end * kGroupRows; i += kLanes)
      store(out + k * kRunRows + i, Format::value(w + k * kRunRows + i));
}

// Columns [m, m + columns) of x against groups [g_begin, g_end) of run `run`.
template <typename Format>
void slice_run(const MatmulArgs& a, int64_t run, int g_begin, int g_end, int64_t m, int columns) {
  const FloatPanels& panels = *a.x_float;
  const auto* w = reinterpret_cast<const typename Format::Value*>(a.weights) + run * kRunRows * a.k;
  alignas(64) float slice[kSlice * kRunRows];
  alignas(64) float sums[kSliceColumns * kRunRows];
  for (int i = 0; i < columns * kRunRows; ++i) sums[i] = 0;
  for (int64_t k = 0; k < a.k; k += kSlice) {
    const int64_t steps = a.k - k < kSlice ? a.k - k : kSlice;
    expand_slice<Format>(w + k * kRunRows, g_begin, g_end, steps, slice);
    NextSlice next{reinterpret_cast<const char*>(w + (k + steps) * kRunRows),
                   steps * kRunRows * static_cast<int64_t>(sizeof(*w))};
    for (int c = 0; c < columns; c += kPanel) {
      const float* x = panels.x + (m + c) / panels.panel * panels.panel * a.k + k * panels.panel;
      float* to = sums + c * kRunRows;
      if (columns - c >= kPanel) {
        slice_columns<kPanel>(slice, g_begin, g_end, steps, x, panels.panel, to, next);
        continue;
      }
      int done = 0;
      if (columns - c >= 4) {
        slice_columns<4>(slice, g_begin, g_end, steps, x, panels.panel, to, next);
        done = 4;
      }
      if (columns - c - done >= 2) {
        slice_columns<2>(slice, g_begin, g_end, steps, x + done, panels.panel, to + done * kRunRows, next);
        done += 2;
      }
      if (columns - c > done)
        slice_columns<1>(slice, g_begin, g_end, steps, x + done, panels.panel, to + done * kRunRows, next);
    }
  }
  for (int c = 0; c < columns; ++c)
    for (int g = g_begin; g < g_end; ++g) {
      const int64_t row = (run * kRunGroups + g) * kGroupRows;
      if (a.n <= row) break;
      F32 group[kParts];
      for (int i = 0; i < kParts; ++i) group[i] = venturi_isa::load(sums + c * kRunRows + g * kGroupRows + i * kLanes);
      store_group(group, a.y + (m + c) * a.y_stride + row, a.n - row);
    }
}

template <typename Format>
void run_slices(const MatmulArgs& a) {
  for (int64_t m = a.m_begin; m < a.m_end; m += kSliceColumns) {
    const int columns = static_cast<int>(a.m_end - m < kSliceColumns ? a.m_end - m : kSliceColumns);
    for (int64_t group = a.group_begin; group < a.group_end;) {
      const int64_t run = group / kRunGroups, end = (run + 1) * kRunGroups < a.group_end ? (run + 1) * kRunGroups : a.group_end;
      slice_run<Format>(a, run, static_cast<int>(group - run * kRunGroups), static_cast<int>(end - run * kRunGroups), m,
                        columns);
      group = end;
    }
  }
}
