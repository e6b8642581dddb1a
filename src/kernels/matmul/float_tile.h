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

// How far ahead a stream of weights is asked for, in bytes, and how much further into the second cache.
constexpr int kFloatAheadBytes = 8192, kFloatFarBytes = 8192;

// Memory to ask for while a tile runs: from `at` on into the first cache, from `far` on into the second,
// up to the lines at `last` and `far_last` further on (asked for again and again once reached, which costs
// no traffic).
struct Ahead {
  const char* at;
  int64_t last = INT64_MAX;
  const char* far = at ? at + kFloatFarBytes : at;
  int64_t far_last = last - kFloatFarBytes;
};

// acc[c][g, part] = fma(W[group g, k], x[k * x_step + c * x_column], acc), k = 0 … k_end - 1.
// Group g, step k of W begins at w + g * group_stride + k * k_stride, in values. Each step asks for
// kPrefetchBytes of `ahead`.
template <typename Format, int kGroups, int kColumns, int kPrefetchBytes = 0>
inline void float_tile(const typename Format::Value* w, int64_t group_stride, int64_t k_stride, int64_t k_end,
                       const float* x, int64_t x_step, int64_t x_column, F32 (&acc)[kColumns][kGroups * kParts],
                       Ahead ahead = {}) {
  for (int64_t k = 0; k < k_end; ++k) {
    for (int i = 0; i < kPrefetchBytes; i += 64) {
      const int64_t offset = k * kPrefetchBytes + i;
      prefetch(ahead.at + (offset < ahead.last ? offset : ahead.last));
      prefetch_far(ahead.far + (offset < ahead.far_last ? offset : ahead.far_last));
    }
    F32 v[kGroups * kParts];
    for (int g = 0; g < kGroups; ++g)
      for (int part = 0; part < kParts; ++part)
        v[g * kParts + part] = Format::value(w + g * group_stride + k * k_stride + part * kLanes);
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

