// The attention kernels over the vector wrapper and the f32 register tile.

constexpr int kScoreVectors = kPageTokens / kLanes;
constexpr int kLaneParts = 16 / kLanes;
constexpr float kLog2e = 1.44269504f;

// Queries go through a page in tiles of up to kMaxColumns.
constexpr int kMaxColumns = kLanes == 16 ? 12 : 6;

// Groups of 16 rows (keys, or elements of a value) per register tile: as many sums as the registers
// hold beside the rows and one broadcast.
template <int kColumns>
constexpr int tile_groups() {
  if constexpr (kLanes == 16) return kColumns > 6 ? 2 : 4;
  return kColumns > 2 ? 1 : kColumns == 2 ? 2 : 4;
}

// The width of the tile that `left` queries begin with. With 16 lanes what is left over is halved: two
// tiles of 8 cost less than one of 12 and one of 4. With fewer, 6 and 2 beat 4 and 4.
constexpr int next_columns(int left) {
  if (left <= kMaxColumns) return left;
  return kLanes < 16 || left >= 2 * kMaxColumns ? kMaxColumns : (left + 1) / 2;
}

// What a thread reads next, and what after that; asked for while it computes, into the first cache and the
// second, so that the memory never waits. Where there is nothing (0 bytes), a line that is mapped.
struct Fetch {
  const uint16_t* next;
  int64_t bytes = 0;
  const uint16_t* later = next;
  int64_t later_bytes = 0;

  // The part that begins at `offset`.
  Ahead from(int64_t offset) const {
    Ahead ahead{reinterpret_cast<const char*>(next), 0, reinterpret_cast<const char*>(later), 0};
    if (offset < bytes) {
      ahead.at += offset;
      ahead.last = bytes - offset - 64;
    }
    if (offset < later_bytes) {
      ahead.far += offset;
      ahead.far_last = later_bytes - offset - 64;
    }
    return ahead;
  }
};

// scores[c][key] for kColumns queries [k_dim][kColumns] and the kPageTokens keys of a page.
template <int kColumns>
inline void score_tile(const uint16_t* keys, int k_dim, const float* q, float* scores, Fetch fetch) {
  constexpr int kGroups = tile_groups<kColumns>();
  const int64_t group_elems = int64_t{k_dim} * 16;
  for (int g = 0; g < kPageTokens / 16; g += kGroups) {
    F32 acc[kColumns][kGroups * kParts];
    for (auto& column : acc)
      for (F32& a : column) a = zero();
    float_tile<FormatF16, kGroups, kColumns, kGroups * 32>(keys + g * group_elems, group_elems, 16, k_dim, q, kColumns,
                                                           1, acc, fetch.from(g * group_elems * 2));
    for (int c = 0; c < kColumns; ++c)
      for (int i = 0; i < kGroups * kParts; ++i) store(scores + c * kPageTokens + g * 16 + i * kLanes, acc[c][i]);
  }
}

// out[c] = out[c] * alpha[c] + scores[c] . values, n_keys of them, for groups [g, g_end) of elements,
// kGroups at a time; returns the first group that is left.
template <int kColumns, int kGroups>
inline int value_groups(const uint16_t* values, int g, int g_end, int n_keys, const float* scores, const float* alpha,
                        float* out, int out_stride, Fetch fetch) {
  constexpr int64_t kGroupElems = kPageTokens * 16;
  for (; g + kGroups <= g_end; g += kGroups) {
    F32 acc[kColumns][kGroups * kParts];
    for (int c = 0; c < kColumns; ++c)
      for (int i = 0; i < kGroups * kParts; ++i)
        acc[c][i] = mul(venturi_isa::load(out + c * out_stride + g * 16 + i * kLanes), set1(alpha[c]));
    float_tile<FormatF16, kGroups, kColumns, kGroups * 32>(values + g * kGroupElems, kGroupElems, 16, n_keys, scores, 1,
                                                           kPageTokens, acc, fetch.from(g * kGroupElems * 2));
    for (int c = 0; c < kColumns; ++c)
      for (int i = 0; i < kGroups * kParts; ++i) store(out + c * out_stride + g * 16 + i * kLanes, acc[c][i]);
  }
  return g;
}

template <int kColumns>
inline void value_tile(const uint16_t* values, int v_stride, int n_keys, const float* scores, const float* alpha,
                       float* out, Fetch fetch) {
  constexpr int kGroups = tile_groups<kColumns>();
  const int end = v_stride / 16;
  int g = value_groups<kColumns, kGroups>(values, 0, end, n_keys, scores, alpha, out, v_stride, fetch);
  if constexpr (kGroups > 2) g = value_groups<kColumns, 2>(values, g, end, n_keys, scores, alpha, out, v_stride, fetch);
  if constexpr (kGroups > 1) value_groups<kColumns, 1>(values, g, end, n_keys, scores, alpha, out, v_stride, fetch);
}

// Scores of a block as they enter the softmax: capped, and -inf where the query may not look (which
// also clears whatever lies in slots of the page that no token has filled yet). Returns the largest.
inline float visible_scores(float* scores, int visible_begin, int visible_end, float soft_cap) {
  F32 s[kScoreVectors];
  if (soft_cap > 0) {
    const F32 cap = set1(soft_cap);
    for (int i = 0; i < kPageTokens; i += kLanes)
      store(scores + i, mul(mul(tanh(div(venturi_isa::load(scores + i), cap)), cap), set1(kLog2e)));
  }
  for (int j = 0; j < visible_begin; ++j) scores[j] = -__builtin_inff();
  for (int j = visible_end; j < kPageTokens; ++j) scores[j] = -__builtin_inff();
  for (int i = 0; i < kScoreVectors; ++i) s[i] = venturi_isa::load(scores + i * kLanes);
  F32 maximum = s[0];
  for (int i = 1; i < kScoreVectors; ++i) maximum = max(maximum, s[i]);
  return reduce_max(maximum);
}

// Scores of kColumns queries to exponentials; their running maxima and lane sums move on. shrink[c] is
// the factor by which what query c summed before must shrink. Column by column inside each of three
// passes, so that the chain from a score to its exponential is crossed three times a tile, not three
// times a query.
template <int kColumns>
inline void online_softmax(const AttendSplit& a, int q0, const int* begin, const int* end, float* scores,
                           float* shrink) {
  constexpr int kVectors = (kColumns + kLanes - 1) / kLanes;
  float* top = a.top + q0;
  alignas(64) float old_top[kVectors * kLanes] = {}, new_top[kVectors * kLanes] = {};
  for (int c = 0; c < kColumns; ++c) {
    old_top[c] = top[c];
    new_top[c] = visible_scores(scores + c * kPageTokens, begin[c], end[c], a.soft_cap);
  }
  for (int i = 0; i < kVectors * kLanes; i += kLanes) {
    const F32 before = venturi_isa::load(old_top + i), block = venturi_isa::load(new_top + i);
    const F32 now = select_less(before, block, block, before);
    store(new_top + i, now);
    store(shrink + i, exp2(sub(before, now)));
  }
  for (int c = 0; c < kColumns; ++c) {
    top[c] = new_top[c];
    float* lanes = a.lanes + (q0 + c) * 16;
    F32 sums[kLaneParts];
    for (int p = 0; p < kLaneParts; ++p) sums[p] = mul(venturi_isa::load(lanes + p * kLanes), set1(shrink[c]));
    for (int i = 0; i < kScoreVectors; ++i) {
      float* s = scores + c * kPageTokens + i * kLanes;
      const F32 e = exp2(sub(venturi_isa::load(s), set1(new_top[c])));
      store(s, e);
      sums[i % kLaneParts] = add(sums[i % kLaneParts], e);
    }
    for (int p = 0; p < kLaneParts; ++p) store(lanes + p * kLanes, sums[p]);
  }
}

inline int clamp_to_page(int64_t x) { return x < 0 ? 0 : x > kPageTokens ? kPageTokens : static_cast<int>(x); }

// One page for kColumns queries from q0 on.
template <int kColumns>
void attend_columns(const AttendSplit& a, int block, const uint16_t* values, int q0, Fetch after_keys,
                    Fetch after_values) {
  const int64_t base = a.first_key + int64_t{block} * kPageTokens;
  int begin[kColumns], end[kColumns], last = 0;
  for (int c = 0; c < kColumns; ++c) {
    begin[c] = clamp_to_page(a.lo[q0 + c] - base);
    end[c] = clamp_to_page(a.hi[q0 + c] - base);
    if (end[c] > begin[c]) {
      last = end[c] > last ? end[c] : last;
    } else {
      end[c] = begin[c];
    }
  }
  if (last == 0) return;  // nothing visible: the state would not change
  const int v_stride = value_stride(a.v_dim);
  alignas(64) float scores[kColumns * kPageTokens];
  alignas(64) float shrink[16];
  score_tile<kColumns>(a.keys[block], a.k_dim, a.queries + int64_t{q0} * a.k_dim, scores, after_keys);
  online_softmax<kColumns>(a, q0, begin, end, scores, shrink);
  value_tile<kColumns>(values, v_stride, last, scores, shrink, a.out + int64_t{q0} * v_stride, after_values);
}

template <int kColumns = kMaxColumns>
inline void attend_tile(int columns, const AttendSplit& a, int block, const uint16_t* values, int q0, Fetch after_keys,
                        Fetch after_values) {
  if (columns == kColumns) return attend_columns<kColumns>(a, block, values, q0, after_keys, after_values);
  if constexpr (kColumns > 1) attend_tile<kColumns - 1>(columns, a, block, values, q0, after_keys, after_values);
}

// Vectors of 16 bytes, whose shuffles every compiler turns into the machine's own: for transposing.
typedef float Floats4 __attribute__((vector_size(16)));
typedef uint16_t Halves8 __attribute__((vector_size(16)));

template <typename V, typename T>
inline V load16(const T* p) {
  V v;
  __builtin_memcpy(&v, p, 16);
  return v;
}
template <typename V, typename T>
inline void store16(T* p, V v) {
  __builtin_memcpy(p, &v, 16);
}

// out[i * out_stride + c] = rows[c][i] * scale: 4 rows of 4.
inline void transpose4(const float* const* rows, int i, float scale, float* out, int out_stride) {
  Floats4 r[4];
  for (int c = 0; c < 4; ++c) r[c] = load16<Floats4>(rows[c] + i) * scale;
  const Floats4 a = __builtin_shufflevector(r[0], r[1], 0, 4, 1, 5), b = __builtin_shufflevector(r[2], r[3], 0, 4, 1, 5);
  const Floats4 c = __builtin_shufflevector(r[0], r[1], 2, 6, 3, 7), d = __builtin_shufflevector(r[2], r[3], 2, 6, 3, 7);
  store16(out, __builtin_shufflevector(a, b, 0, 1, 4, 5));
  store16(out + out_stride, __builtin_shufflevector(a, b, 2, 3, 6, 7));
  store16(out + 2 * out_stride, __builtin_shufflevector(c, d, 0, 1, 4, 5));
  store16(out + 3 * out_stride, __builtin_shufflevector(c, d, 2, 3, 6, 7));
}

void pack_queries(const float* const* rows, int n, int k_dim, float scale, float* out) {
  for (int q = 0; q < n;) {
    const int columns = next_columns(n - q);
    int c = 0;
    for (; c + 4 <= columns; c += 4) {
      int i = 0;
      for (; i + 4 <= k_dim; i += 4) transpose4(rows + q + c, i, scale, out + i * columns + c, columns);
      for (; i < k_dim; ++i)
        for (int j = c; j < c + 4; ++j) out[i * columns + j] = rows[q + j][i] * scale;
    }
    for (; c < columns; ++c)
      for (int i = 0; i < k_dim; ++i) out[i * columns + c] = rows[q + c][i] * scale;
    out += int64_t{columns} * k_dim;
    q += columns;
  }
}

// 8 rows of 8 halves, `in_stride` apart, to 8 rows `out_stride` apart, columns to rows.
inline void transpose8(const uint16_t* in, int in_stride, uint16_t* out, int out_stride) {
  // Each round interleaves rows i and i + 4: after three, row and column bits have changed places.
  Halves8 r[8], s[8];
  for (int i = 0; i < 8; ++i) r[i] = load16<Halves8>(in + i * in_stride);
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 4; ++i) {
      s[2 * i] = __builtin_shufflevector(r[i], r[i + 4], 0, 8, 1, 9, 2, 10, 3, 11);
      s[2 * i + 1] = __builtin_shufflevector(r[i], r[i + 4], 4, 12, 5, 13, 6, 14, 7, 15);
    }
    for (int i = 0; i < 8; ++i) r[i] = s[i];
  }
  for (int i = 0; i < 8; ++i) store16(out + i * out_stride, r[i]);
}

// The last v_dim elements of a page's keys, in the layout of values.
inline void values_of_keys(const uint16_t* keys, int k_dim, int v_dim, uint16_t* values) {
  const int first = k_dim - v_dim;
  for (int e0 = 0; e0 < v_dim; e0 += 16) {
    const int n = v_dim - e0 < 16 ? v_dim - e0 : 16;
    uint16_t* out = values + int64_t{e0} * kPageTokens;
    for (int group = 0; group < kPageTokens / 16; ++group) {
      const uint16_t* in = keys + (int64_t{group} * k_dim + first + e0) * 16;
      if (n == 16) {
        for (int t = 0; t < 16; t += 8)
          for (int e = 0; e < 16; e += 8) transpose8(in + e * 16 + t, 16, out + (group * 16 + t) * 16 + e, 16);
        continue;
      }
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
  for (int q = 0; q < a.n_queries && !a.begun; ++q) {
    a.top[q] = kNoScore;
    for (int i = 0; i < 16; ++i) a.lanes[q * 16 + i] = 0;
    for (int i = 0; i < v_stride; ++i) a.out[int64_t{q} * v_stride + i] = 0;
  }
  for (int block = 0; block < a.n_blocks; ++block) {
    const uint16_t* values = a.values ? a.values[block] : a.value_scratch;
    if (!a.values) values_of_keys(a.keys[block], a.k_dim, a.v_dim, a.value_scratch);
    // The first tile of queries brings the pages; the others find them in the cache.
    const uint16_t* next_keys = block + 1 < a.n_blocks ? a.keys[block + 1] : a.next_keys;
    const int64_t key_bytes = 2 * key_page_elems(a.k_dim), value_bytes = 2 * value_page_elems(a.v_dim);
    const Fetch nothing{a.keys[block]};
    Fetch after_keys = nothing, after_values = nothing;
    if (next_keys) after_keys = {next_keys, key_bytes};
    if (a.values) {
      after_keys = next_keys ? Fetch{values, value_bytes, next_keys, key_bytes} : Fetch{values, value_bytes};
      // Values lie behind their keys.
      if (next_keys) after_values = {next_keys, key_bytes, next_keys + key_page_elems(a.k_dim), value_bytes};
    }
    for (int q = 0; q < a.n_queries;) {
      const int columns = next_columns(a.n_queries - q);
      attend_tile(columns, a, block, values, q, after_keys, after_values);
      after_keys = after_values = nothing;
      q += columns;
    }
  }
  for (int q = 0; q < a.n_queries && !a.unfinished; ++q) {
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

constexpr AttentionKernels make_attention() { return {pack_queries, split, merge, store_key, store_value}; }
