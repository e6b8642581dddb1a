// Many columns of x against an integer format, on a set whose vector is a whole group of rows and which
// adds four products to a lane in one instruction (kWideDots). Included after the formats of generic.h.
//
// What limits there is loading x: a word of it serves one product only. So two groups share a word, and
// four columns go side by side to keep eight sums under way: 25 of 32 registers with the codes. The order
// of every sum is int_tile's.

template <typename Format, int kGroups, int kColumns>
[[gnu::always_inline]] inline void wide_columns(const typename Format::Block* blocks, const Int8Rows& x, int64_t b,
                                                int64_t m, F32* acc) {
  constexpr int kWords = 8 / Format::kRuns;
  Column columns[kColumns];
  unroll<kColumns>([&](auto c) { columns[c.value] = column_at<Format>(x, b, m + c.value); });
  unroll<Format::kRuns>([&](auto run) __attribute__((always_inline)) {
    I32 sums[kColumns][kGroups];
    unroll<kColumns>([&](auto c) {
      const I32 start = Format::start(columns[c.value], run.value);
      unroll<kGroups>([&](auto g) { sums[c.value][g.value] = start; });
    });
    unroll<kWords>([&](auto j) __attribute__((always_inline)) {
      unroll<kColumns>([&](auto c) __attribute__((always_inline)) {
        const Bytes word = held_word(columns[c.value].q + (run.value * kWords + j.value) * 4);
        unroll<kGroups>([&](auto g) {
          I32& sum = sums[c.value][g.value];
          sum = dot_word(sum, Format::codes(blocks[g.value], run.value)[j.value], word);
        });
      });
    });
    unroll<kColumns>([&](auto c) __attribute__((always_inline)) {
      unroll<kGroups>([&](auto g) {
        F32& to = acc[c.value * kGroups + g.value];
        to = Format::finish(blocks[g.value], run.value, sums[c.value][g.value], columns[c.value], to);
      });
    });
  });
}

// Groups [group, group + kGroups) against columns [m0, m0 + columns) of x, at most kTileColumns.
template <typename Format, int kGroups>
inline void wide_tile(const MatmulArgs& a, int64_t group, int64_t m0, int columns) {
  const Int8Rows& x = *a.x_int8;
  F32 acc[kTileColumns * kGroups];
  for (int i = 0; i < columns * kGroups; ++i) acc[i] = zero();
  const int64_t blocks = a.k / 32;
  for (int64_t b = 0; b < blocks; ++b) {
    typename Format::Block block[kGroups];
    unroll<kGroups>([&](auto g) __attribute__((always_inline)) {
      const Format format(a, group + g.value);
      prefetch_ahead<Format::kBlockBytes, Format::kMin ? 0 : 1>(format, b);
      block[g.value] = format.load(b, 0);
    });
    int c = 0;
    for (; c + 4 <= columns; c += 4) wide_columns<Format, kGroups, 4>(block, x, b, m0 + c, acc + c * kGroups);
    if (c + 2 <= columns) {
      wide_columns<Format, kGroups, 2>(block, x, b, m0 + c, acc + c * kGroups);
      c += 2;
    }
    if (c < columns) wide_columns<Format, kGroups, 1>(block, x, b, m0 + c, acc + c * kGroups);
  }
  for (int c = 0; c < columns; ++c)
    for (int g = 0; g < kGroups; ++g)
      store_group(acc + c * kGroups + g, a.y + (m0 + c) * a.y_stride + (group + g) * kGroupRows,
                  a.n - (group + g) * kGroupRows);
}

template <typename Format>
void wide_groups(const MatmulArgs& a, int64_t m0, int columns) {
  int64_t group = a.group_begin;
  for (; group + 2 <= a.group_end; group += 2) wide_tile<Format, 2>(a, group, m0, columns);
  if (group < a.group_end) wide_tile<Format, 1>(a, group, m0, columns);
}
