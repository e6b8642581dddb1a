// The attention kernels over the vector wrapper and the f32 register tile.

constexpr int kScoreVectors = kPageTokens / kLanes;
constexpr int kLaneParts = 16 / kLanes;
constexpr float kLog2e = 1.44269504f;

// Groups of 16 rows per register tile, by columns: as many sums as the registers hold.
template <int kColumns>
constexpr int tile_groups() {
  if constexpr (kLanes == 16) return kColumns > 4 ? 2 : 4;
  if constexpr (kLanes == 8) return kColumns > 2 ? 1 : kColumns == 2 ? 2 : 4;
  return kColumns > 2 ? 1 : kColumns == 2 ? 2 : 4;
}

// scores[c][key] for kColumns queries and the kPageTokens keys of a page.
template <int kColumns>
inline void score_tile(const uint16_t* keys, int k_dim, const float* q, int q_step, float* scores) {
  constexpr int kGroups = tile_groups<kColumns>();
  const int64_t group_elems = int64_t{k_dim} * 16;
  for (int g = 0; g < kPageTokens / 16; g += kGroups) {
    F32 acc[kColumns][kGroups * kParts];
    for (auto& column : acc)
      for (F32& a : column) a = zero();
    float_tile<FormatF16, kGroups, kColumns>(keys + g * group_elems, group_elems, 16, k_dim, q, q_step, 1, acc);
    for (int c = 0; c < kColumns; ++c)
      for (int i = 0; i < kGroups * kParts; ++i) store(scores + c * kPageTokens + g * 16 + i * kLanes, acc[c][i]);
  }
}

// out[c] = out[c] * alpha[c] + scores[c] . values, n_keys of them.
template <int kColumns, int kGroups>
inline void value_groups(const uint16_t* values, int n_keys, const float* scores, const float* alpha, float* out,
                         int out_stride, int group) {
  F32 acc[kColumns][kGroups * kParts];
  for (int c = 0; c < kColumns; ++c)
    for (int i = 0; i < kGroups * kParts; ++i)
      acc[c][i] = mul(venturi_isa::load(out + c * out_stride + group * 16 + i * kLanes), set1(alpha[c]));
  float_tile<FormatF16, kGroups, kColumns>(values + group * kPageTokens * 16, kPageTokens * 16, 16, n_keys, scores, 1,
                                           kPageTokens, acc);
  for (int c = 0; c < kColumns; ++c)
    for (int i = 0; i < kGroups * kParts; ++i)
      store(out + c * out_stride + group * 16 + i * kLanes, acc[c][i]);
}

template <int kColumns>
inline void value_tile(const uint16_t* values, int v_stride, int n_keys, const float* scores, const float* alpha,
                       float* out) {
  constexpr int kGroups = tile_groups<kColumns>();
  const int groups = v_stride / 16;
  int g = 0;
  for (; g + kGroups <= groups; g += kGroups)
    value_groups<kColumns, kGroups>(values, n_keys, scores, alpha, out, v_stride, g);
  for (; g < groups; ++g) value_groups<kColumns, 1>(values, n_keys, scores, alpha, out, v_stride, g);
}

// One query's scores of a block to exponentials; its running maximum and lane sums move on.
// Returns the factor by which what was summed before must shrink.
inline float online_softmax(float* scores, int visible_begin, int visible_end, float soft_cap_value, float& top,
                            float* lanes) {
  F32 s[kScoreVectors];
  for (int i = 0; i < kScoreVectors; ++i) s[i] = venturi_isa::load(scores + i * kLanes);
  if (soft_cap_value > 0) {
    const F32 cap = set1(soft_cap_value);
    for (F32& v : s) v = mul(mul(tanh(div(v, cap)), cap), set1(kLog2e));
  }
  if (visible_begin > 0 || visible_end < kPageTokens) {
    // Also clears whatever lies in slots of the page that no token has filled yet.
    for (int i = 0; i < kScoreVectors; ++i) store(scores + i * kLanes, s[i]);
    for (int j = 0; j < visible_begin; ++j) scores[j] = -__builtin_inff();
    for (int j = visible_end; j < kPageTokens; ++j) scores[j] = -__builtin_inff();
    for (int i = 0; i < kScoreVectors; ++i) s[i] = venturi_isa::load(scores + i * kLanes);
  }
  F32 maximum = s[0];
  for (int i = 1; i < kScoreVectors; ++i) maximum = max(maximum, s[i]);
  const float block_top = reduce_max(maximum);
  const float new_top = block_top > top ? block_top : top;
  float shrink[kLanes];
  store(shrink, exp2(set1(top - new_top)));
  F32 sums[kLaneParts];
  for (int p = 0; p < kLaneParts; ++p) sums[p] = mul(venturi_isa::load(lanes + p * kLanes), set1(shrink[0]));
  for (int i = 0; i < kScoreVectors; ++i) {
    const F32 e = exp2(sub(s[i], set1(new_top)));
    store(scores + i * kLanes, e);
    sums[i % kLaneParts] = add(sums[i % kLaneParts], e);
  }
  for (int p = 0; p < kLaneParts; ++p) store(lanes + p * kLanes, sums[p]);
  top = new_top;
  return shrink[0];
}

inline int clamp_to_page(int64_t x) { return x < 0 ? 0 : x > kPageTokens ? kPageTokens : static_cast<int>(x); }

template <int kColumns>
inline void attend_columns(const AttendSplit& a, int block, const uint16_t* values, int q0) {
  const int64_t base = a.first_key + int64_t{block} * kPageTokens;
  int begin[kColumns], end[kColumns], last = 0;
  for (int c = 0; c < kColumns; ++c) {
    begin[c] = clamp_to_page(a.lo[q0 + c] - base);
    end[c] = clamp_to_page(a.hi[q0 + c] - base);
    if (end[c] > begin[c] && end[c] > last) last = end[c];
  }
  if (last == 0) return;  // nothing visible: the state would not change
  const int v_stride = value_stride(a.v_dim);
  alignas(64) float scores[kColumns * kPageTokens];
  float alpha[kColumns];
  score_tile<kColumns>(a.keys[block], a.k_dim, a.queries + q0, a.n_queries, scores);
  for (int c = 0; c < kColumns; ++c)
    alpha[c] = online_softmax(scores + c * kPageTokens, begin[c], end[c] > begin[c] ? end[c] : begin[c], a.soft_cap,
                              a.top[q0 + c], a.lanes + (q0 + c) * 16);
  value_tile<kColumns>(values, v_stride, last, scores, alpha, a.out + int64_t{q0} * v_stride);
}

// The last v_dim elements of a page's keys, in the layout of values.
inline void values_of_keys(const uint16_t* keys, int k_dim, int v_dim, uint16_t* values) {
  const int first = k_dim - v_dim;
  for (int e0 = 0; e0 < v_dim; e0 += 16) {
    const int n = v_dim - e0 < 16 ? v_dim - e0 : 16;
    uint16_t* out = values + int64_t{e0} * kPageTokens;
    for (int group = 0; group < kPageTokens / 16; ++group) {
      const uint16_t* in = keys + (int64_t{group} * k_dim + first + e0) * 16;
      for (int t = 0; t < 16; ++t) {
        uint16_t* row = out + (group * 16 + t) * 16;
        for (int e = 0; e < n; ++e) row[e] = in[e * 16 + t];
        for (int e = n; e < 16; ++e) row[e] = 0;
      }
    }
  }
}

void split(const AttendSplit& a) {
  const int v_stride = value_stride(a.v_dim);
  for (int q = 0; q < a.n_queries; ++q) {
    a.top[q] = kNoScore;
    for (int i = 0; i < 16; ++i) a.lanes[q * 16 + i] = 0;
    for (int i = 0; i < v_stride; ++i) a.out[int64_t{q} * v_stride + i] = 0;
  }
  for (int block = 0; block < a.n_blocks; ++block) {
    const uint16_t* values = a.values ? a.values[block] : a.value_scratch;
    if (!a.values) values_of_keys(a.keys[block], a.k_dim, a.v_dim, a.value_scratch);
    int q = 0;
    while (q < a.n_queries) {
      const int left = a.n_queries - q;
      if constexpr (kLanes == 16) {
        if (left >= 12) { attend_columns<12>(a, block, values, q); q += 12; continue; }
        if (left >= 8) { attend_columns<8>(a, block, values, q); q += 8; continue; }
      }
      if (left >= 6) { attend_columns<6>(a, block, values, q); q += 6; continue; }
      if (left >= 4) { attend_columns<4>(a, block, values, q); q += 4; continue; }
      if (left >= 2) { attend_columns<2>(a, block, values, q); q += 2; continue; }
      attend_columns<1>(a, block, values, q);
      ++q;
    }
  }
  for (int q = 0; q < a.n_queries; ++q) {
    float* lanes = a.lanes + q * 16;
    for (int width = 8; width >= 1; width /= 2)
      for (int i = 0; i < width; ++i) lanes[i] += lanes[i + width];
    a.sum[q] = lanes[0];
  }
}

void merge(float* top_a, float* sum_a, float* out_a, float top_b, float sum_b, const float* out_b, int n) {
  if (sum_b == 0) return;
  const float top = top_b > *top_a ? top_b : *top_a;
  float fa[kLanes], fb[kLanes];
  store(fa, exp2(set1(*top_a - top)));
  store(fb, exp2(set1(top_b - top)));
  *top_a = top;
  *sum_a = __builtin_fmaf(sum_b, fb[0], *sum_a * fa[0]);
  for (int i = 0; i < n; i += kLanes)  // n is a multiple of 16
    store(out_a + i, fma(venturi_isa::load(out_b + i), set1(fb[0]), mul(venturi_isa::load(out_a + i), set1(fa[0]))));
}

// Saturates: an infinity, times the zero weight of a token that may not see it, would be NaN.
inline F32 clamp_half(F32 x) { return min(set1(65504.0f), max(set1(-65504.0f), x)); }

inline void to_half(const float* x, int n, uint16_t* out) {
  int i = 0;
  for (; i + kLanes <= n; i += kLanes) store_f16(out + i, clamp_half(venturi_isa::load(x + i)));
  if (i < n) {
    float tail[kLanes] = {};
    uint16_t halves[kLanes];
    for (int j = i; j < n; ++j) tail[j - i] = x[j];
    store_f16(halves, clamp_half(venturi_isa::load(tail)));
    for (int j = i; j < n; ++j) out[j] = halves[j - i];
  }
}

void store_key(const float* key, int k_dim, int token, uint16_t* page) {
  uint16_t* column = page + int64_t{token / 16} * k_dim * 16 + token % 16;
  for (int i = 0; i < k_dim; i += 64) {
    uint16_t halves[64];
    const int n = k_dim - i < 64 ? k_dim - i : 64;
    to_half(key + i, n, halves);
    for (int j = 0; j < n; ++j) column[(i + j) * 16] = halves[j];
  }
}

void store_value(const float* value, int v_dim, int token, uint16_t* page) {
  for (int i = 0; i < v_dim; i += 16)
    to_half(value + i, v_dim - i < 16 ? v_dim - i : 16, page + (int64_t{i / 16} * kPageTokens + token) * 16);
}

constexpr AttentionKernels make_attention() { return {split, merge, store_key, store_value}; }
