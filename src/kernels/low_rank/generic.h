// The low-rank kernels over the vector wrapper; included once per instruction set, inside its
// namespace, after float_tile.h. A lane is a row of W.

// One row of x alone is a stream of W: asked for this far ahead.
constexpr int64_t kLowRankAhead = 4096;  // bytes

// acc[c][group, part] over [k_begin, k_end) of kGroups groups and kColumns rows of x.
template <typename Format, int kGroups, int kColumns>
inline void low_rank_tile(const LowRankArgs& a, int64_t group, const float* const* x, F32 (&acc)[kColumns][kGroups * kParts]) {
  const auto* w = reinterpret_cast<const typename Format::Value*>(a.weights) + group * a.k * kGroupRows;
  const int64_t group_stride = a.k * kGroupRows;
  for (int64_t k = a.k_begin; k < a.k_end; ++k) {
    F32 v[kGroups * kParts];
    for (int g = 0; g < kGroups; ++g) {
      const auto* at = w + g * group_stride + k * kGroupRows;
      if constexpr (kColumns == 1) prefetch(reinterpret_cast<const char*>(at) + kLowRankAhead);
      for (int part = 0; part < kParts; ++part) v[g * kParts + part] = Format::value(at + part * kLanes);
    }
    for (int c = 0; c < kColumns; ++c) {
      const F32 xc = set1(x[c][k]);
      for (int i = 0; i < kGroups * kParts; ++i) acc[c][i] = fma(v[i], xc, acc[c][i]);
    }
  }
}

inline void add_group(F32* acc, const float* y, int64_t n_left) {
  if (n_left >= kGroupRows) {
    for (int part = 0; part < kParts; ++part) acc[part] = add(venturi_isa::load(y + part * kLanes), acc[part]);
    return;
  }
  float rows[kGroupRows] = {};
  for (int64_t i = 0; i < n_left; ++i) rows[i] = y[i];
  for (int part = 0; part < kParts; ++part) acc[part] = add(venturi_isa::load(rows + part * kLanes), acc[part]);
}

template <typename Format, int kGroups, int kColumns>
inline void low_rank_groups(const LowRankArgs& a, int64_t group, int64_t row) {
  F32 acc[kColumns][kGroups * kParts];
  for (auto& column : acc)
    for (F32& sum : column) sum = zero();
  low_rank_tile<Format, kGroups, kColumns>(a, group, a.x + row, acc);
  for (int c = 0; c < kColumns; ++c)
    for (int g = 0; g < kGroups; ++g) {
      float* y = a.y[row + c] + (group + g) * kGroupRows;
      const int64_t left = a.n - (group + g) * kGroupRows;
      if (a.add) add_group(acc[c] + g * kParts, y, left);
      store_group(acc[c] + g * kParts, y, left);
    }
}

// Groups that one or four rows of x take together: enough sums to cover the latency of an fma, few enough
// to stay in registers.
constexpr int low_rank_group_run(int columns) { return columns == 1 || kLanes == 16 ? 4 : 1; }

template <typename Format, int kColumns>
inline void low_rank_columns(const LowRankArgs& a, int64_t row) {
  constexpr int kGroups = low_rank_group_run(kColumns);
  int64_t group = a.group_begin;
  for (; group + kGroups <= a.group_end; group += kGroups) low_rank_groups<Format, kGroups, kColumns>(a, group, row);
  for (; group < a.group_end; ++group) low_rank_groups<Format, 1, kColumns>(a, group, row);
}

template <typename Format>
void run_low_rank(const LowRankArgs& a) {
  int64_t row = 0;
  for (; row + 4 <= a.rows; row += 4) low_rank_columns<Format, 4>(a, row);
  for (; row < a.rows; ++row) low_rank_columns<Format, 1>(a, row);
}

constexpr LowRankTable make_low_rank() {
  LowRankTable table{};
  table.run[static_cast<int>(LowRankFormat::kF32)] = run_low_rank<FormatF32>;
  table.run[static_cast<int>(LowRankFormat::kF16)] = run_low_rank<FormatF16>;
  table.run[static_cast<int>(LowRankFormat::kBF16)] = run_low_rank<FormatBF16>;
  return table;
}
