// The f32 register tile that matmul and attention share. Included inside an instruction set's
// namespace after its wrapper, like generic.h.
//
// A lane is a row of W (a key, or an element of a value); kParts vectors hold the 16 rows of a group.

constexpr int kParts = kGroupRows / kLanes;

struct FormatF32 {
  using Value = float;
  static F32 value(const float* p) { return venturi_isa::load(p); }
};
struct FormatF16 {
  using Value = uint16_t;
  static F32 value(const uint16_t* p) { return load_f16(p); }
};
struct FormatBF16 {
  using Value = uint16_t;
  static F32 value(const uint16_t* p) { return load_bf16(p); }
};

// Register tiles: kTileGroups groups x kPanel columns, chosen so that the sums leave room for the
// weights and one broadcast: 2 x 12 of 32 registers with 16 lanes, 1 x 6 (12 of 16) with 8,
// 1 x 6 (24 of 32) with 4.
constexpr int kPanel = kLanes == 16 ? 12 : 6;
constexpr int kTileGroups = kLanes == 16 ? 2 : 1;
// One column alone: enough independent chains to cover the latency of an fma.
constexpr int kFlatGroups = kLanes == 16 ? 8 : 4;

// How far ahead of each group's stream lines are asked for, in bytes; by measurement, see
// docs/performance.md. A few columns leave more time a line, and want it asked for earlier.
template <int kColumns>
constexpr int kFloatAheadBytes = kColumns == 1 ? 1536 : 4096;

// acc[c][g, part] = fma(W[group g, k], x[k * x_step + c * x_column], acc), k = 0 … k_end - 1.
template <typename Format, int kGroups, int kColumns, bool kPrefetch = false>
inline void float_tile(const typename Format::Value* w, int64_t group_stride, int64_t k_end, const float* x,
                       int64_t x_step, int64_t x_column, F32 (&acc)[kColumns][kGroups * kParts]) {
  constexpr int kPerLine = 64 / (kGroupRows * static_cast<int>(sizeof(typename Format::Value)));  // steps of k
  for (int64_t k = 0; k < k_end; ++k) {
    if constexpr (kPrefetch)
      if (kPerLine <= 1 || k % (kPerLine > 0 ? kPerLine : 1) == 0)
        for (int g = 0; g < kGroups; ++g)
          prefetch(reinterpret_cast<const char*>(w + g * group_stride + k * kGroupRows) + kFloatAheadBytes<kColumns>);
    F32 v[kGroups * kParts];
    for (int g = 0; g < kGroups; ++g)
      for (int part = 0; part < kParts; ++part)
        v[g * kParts + part] = Format::value(w + g * group_stride + k * kGroupRows + part * kLanes);
    for (int c = 0; c < kColumns; ++c) {
      const F32 xc = set1(x[k * x_step + c * x_column]);
      for (int i = 0; i < kGroups * kParts; ++i) acc[c][i] = fma(v[i], xc, acc[c][i]);
    }
  }
}

inline void store_group(const F32* acc, float* y, int64_t n_left) {
  if (n_left >= kGroupRows) {
    for (int part = 0; part < kParts; ++part) store(y + part * kLanes, acc[part]);
    return;
  }
  float rows[kGroupRows];
  for (int part = 0; part < kParts; ++part) store(rows + part * kLanes, acc[part]);
  for (int64_t i = 0; i < n_left; ++i) y[i] = rows[i];
}

