// Five to eight columns of x against 16-bit floats with 16 lanes: a batch still bound by memory.
// Included by generic.h.
//
// All go at once, two groups at a time (up to 16 sums), so that a value is expanded once and the
// arithmetic of a line hides behind the next one's reading; a slice expanded beforehand would read and
// compute in turns. The columns lie in one or two panels.

template <typename Format, int kColumns>
inline void several_columns(const MatmulArgs& a, int64_t m0) {
  using Value = typename Format::Value;
  constexpr int kGroups = 2, kRun = kRunGroups * kGroupRows;
  const FloatPanels& panels = *a.x_float;
  const float* x0 = panels.x + m0 * a.k;
  const float* x1 = x0 + kPanel * a.k;
  for (int64_t group = a.group_begin; group < a.group_end;) {
    const int groups = group % kGroups == 0 && group + kGroups <= a.group_end ? kGroups : 1;
    const int64_t run = group / kRunGroups;
    const Value* w = reinterpret_cast<const Value*>(a.weights) + run * kRun * a.k + group % kRunGroups * kGroupRows;
    // The first half of a run asks for all of its lines: the other half finds them in the second cache.
    const bool asks = group % kRunGroups == 0;
    F32 acc[kColumns][kGroups];
    for (auto& column : acc)
      for (F32& sum : column) sum = zero();
    for (int64_t k = 0; k < a.k; ++k) {
      const Value* at = w + k * kRun;
      if (asks) {
        const char* ahead = reinterpret_cast<const char*>(at) + kFloatAheadBytes;
        prefetch(ahead);
        prefetch_far(ahead + 64);
        prefetch_far(ahead + kFloatFarBytes);
        prefetch_far(ahead + kFloatFarBytes + 64);
      } else {
        prefetch(reinterpret_cast<const char*>(at) + kFloatAheadBytes / 4);
      }
      const F32 v[kGroups] = {Format::value(at), groups == kGroups ? Format::value(at + kGroupRows) : zero()};
      for (int c = 0; c < kColumns; ++c) {
        const F32 xc = set1(c < kPanel ? x0[k * kPanel + c] : x1[k * kPanel + c - kPanel]);
        for (int g = 0; g < kGroups; ++g) acc[c][g] = fma(v[g], xc, acc[c][g]);
      }
    }
    for (int c = 0; c < kColumns; ++c)
      for (int g = 0; g < groups; ++g)
        if (const int64_t left = a.n - (group + g) * kGroupRows; left > 0)
          store_group(&acc[c][g], a.y + (m0 + c) * a.y_stride + (group + g) * kGroupRows, left);
    group += groups;
  }
}
