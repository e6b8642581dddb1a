// A split of attention with one maximum fixed beforehand (Hong et al., "FlashDecoding++", 2024, section 3),
// over the parts of our own kernel. Included inside an instruction set's namespace after
// kernels/attention/generic.h.
//
// Exponentials are 2^(s - kUnified) from the first page on: no maximum is needed before them, nothing that
// was summed shrinks, and parts of different splits add up. A query whose largest score of the split is
// outside [kLowest, kHighest] is done again by the ordinary kernel; that depends on the query and the
// split alone, so neighbours change no bit.

template <int kColumns>
void unified_columns(const AttendSplit& a, int block, const uint16_t* values, int q0, Fetch after_keys,
                     Fetch after_values, float* highest) {
  const int64_t base = a.first_key + int64_t{block} * kPageTokens;
  int last = 0;
  int begin[kColumns], end[kColumns];
  for (int c = 0; c < kColumns; ++c) {
    begin[c] = clamp_to_page(a.lo[q0 + c] - base);
    end[c] = clamp_to_page(a.hi[q0 + c] - base);
    last = end[c] > last ? end[c] : last;
  }
  if (last == 0) return;
  const int v_stride = value_stride(a.v_dim);
  alignas(64) float scores[kColumns * kPageTokens];
  float ones[kColumns];
  score_tile<kColumns>(a.keys[block], a.k_dim, a.queries + int64_t{q0} * a.k_dim, scores, after_keys);
  for (int c = 0; c < kColumns; ++c) {
    ones[c] = 1;
    float* row = scores + c * kPageTokens;
    for (int j = 0; j < begin[c]; ++j) row[j] = -__builtin_inff();
    for (int j = end[c]; j < kPageTokens; ++j) row[j] = -__builtin_inff();
    float *lanes = a.lanes + (q0 + c) * 16, *top = highest + (q0 + c) * 16;
    F32 sums[kLaneParts], tops[kLaneParts];
    for (int p = 0; p < kLaneParts; ++p) {
      sums[p] = venturi_isa::load(lanes + p * kLanes);
      tops[p] = venturi_isa::load(top + p * kLanes);
    }
    for (int i = 0; i < kScoreVectors; ++i) {
      const F32 s = venturi_isa::load(row + i * kLanes), e = exp2(sub(s, set1(kUnified)));
      tops[i % kLaneParts] = max(tops[i % kLaneParts], s);
      sums[i % kLaneParts] = add(sums[i % kLaneParts], e);
      store(row + i * kLanes, e);
    }
    for (int p = 0; p < kLaneParts; ++p) {
      store(lanes + p * kLanes, sums[p]);
      store(top + p * kLanes, tops[p]);
    }
  }
  value_tile<kColumns>(values, v_stride, last, scores, ones, a.out + int64_t{q0} * v_stride, after_values);
}

template <int kColumns = kMaxColumns>
inline void unified_tile(int columns, const AttendSplit& a, int block, const uint16_t* values, int q0,
                         Fetch after_keys, Fetch after_values, float* highest) {
  if (columns == kColumns)
    return unified_columns<kColumns>(a, block, values, q0, after_keys, after_values, highest);
  if constexpr (kColumns > 1)
    unified_tile<kColumns - 1>(columns, a, block, values, q0, after_keys, after_values, highest);
}

// Whole splits with stored values; again.out and the rest of `again` receive the ordinary kernel's results
// if any query needs them. Returns how many did.
int unified_split(const AttendSplit& a, const AttendSplit& again, float* highest) {
  const int v_stride = value_stride(a.v_dim);
  for (int i = 0; i < a.n_queries * 16; ++i) {
    a.lanes[i] = 0;
    highest[i] = kNoScore;
  }
  for (int i = 0; i < a.n_queries * v_stride; ++i) a.out[i] = 0;
  for (int block = 0; block < a.n_blocks; ++block) {
    const uint16_t* next_keys = block + 1 < a.n_blocks ? a.keys[block + 1] : a.next_keys;
    Fetch after_values{next_keys, next_keys ? 2 * key_page_elems(a.k_dim) : 0};
    Fetch after_keys{a.values[block], 2 * value_page_elems(a.v_dim)};
    for (int q = 0; q < a.n_queries;) {
      const int columns = next_columns(a.n_queries - q);
      unified_tile(columns, a, block, a.values[block], q, after_keys, after_values, highest);
      after_keys.bytes = after_values.bytes = 0;
      q += columns;
    }
  }
  int outside = 0;
  for (int q = 0; q < a.n_queries; ++q) {
    float *lanes = a.lanes + q * 16, *top = highest + q * 16;
    for (int width = 8; width >= 1; width /= 2)
      for (int i = 0; i < width; ++i) {
        lanes[i] += lanes[i + width];
        top[i] = top[i] > top[i + width] ? top[i] : top[i + width];
      }
    a.sum[q] = lanes[0];
    a.top[q] = kUnified;
    outside += !(top[0] >= kLowest && top[0] <= kHighest);
  }
  if (outside == 0) return 0;
  split(again);
  for (int q = 0; q < a.n_queries; ++q) {
    if (highest[q * 16] >= kLowest && highest[q * 16] <= kHighest) continue;
    a.top[q] = again.top[q];
    a.sum[q] = again.sum[q];
    for (int i = 0; i < v_stride; ++i) a.out[q * v_stride + i] = again.out[q * v_stride + i];
  }
  return outside;
}
