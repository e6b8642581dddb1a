// A few columns of x against an integer format, where vectors are narrower than a group of rows.
// Included after the formats of generic.h.
//
// The sums stay in registers, the parts of a group are kept apart, and what the blocks of a super-block
// share is unpacked once: the compiler, left alone, keeps the broadcast words of x from one part for the
// next, spills them, and writes the sums back every block. With 16 lanes a group has one part, and
// int_tile is faster.

template <int i>
struct Index {
  static constexpr int value = i;
};
// body(Index<0>), … body(Index<n - 1>), unrolled before anything else is optimised: an array indexed by
// these is held in registers.
template <int n, typename Body>
[[gnu::always_inline]] inline void unroll(const Body& body) {
  if constexpr (n > 0) {
    unroll<n - 1>(body);
    body(Index<n - 1>{});
  }
}

// Nothing loaded from memory is kept over this line.
inline void forget_loads() { asm volatile("" ::: "memory"); }

// A format whose blocks share nothing.
template <typename Format>
struct Blocks {
  static constexpr int kCount = 1;
  const Format& format;
  int64_t first;
  int part;
  template <int>
  [[gnu::always_inline]] typename Format::Block load() const { return format.load(first, part); }
};

// Byte n of every lane.
template <int n>
inline I32 byte_of(I32 v) {
  if constexpr (n == 3) return shr<24>(v);
  if constexpr (n == 0) return iand(v, iset1(255));
  if constexpr (n == 1 || n == 2) return iand(shr<8 * n>(v), iset1(255));
}

template <>
struct Blocks<FormatQ4_K> {
  static constexpr int kCount = 8;
  const uint8_t* super;
  F32 d, dmin;
  I32 scales[2], mins[2];  // a byte each: groups 0-3, groups 4-7

  [[gnu::always_inline]] Blocks(const FormatQ4_K& format, int64_t first, int part)
      : super(format.words + (first >> 3) * (36 * 64) + part * kLanes * 4) {
    load_f16_pairs(super, d, dmin);
    const auto word = [&](int i) { return iload(reinterpret_cast<const int32_t*>(super + i * 64)); };
    const I32 six = iset1(0x3f3f3f3f), four = iset1(0x0f0f0f0f), top = iset1(0x30303030);
    scales[0] = iand(word(1), six);
    mins[0] = iand(word(2), six);
    scales[1] = ior(iand(word(3), four), iand(shr<2>(word(1)), top));
    mins[1] = ior(iand(shr<4>(word(3)), four), iand(shr<2>(word(2)), top));
  }
  template <int g>
  [[gnu::always_inline]] FormatQ4_K::Block load() const {
    FormatQ4_K::Block block;
    const uint8_t* p = super + 4 * 64 + (g >> 1) * 512;
    for (int j = 0; j < 8; ++j) {
      const Bytes v = load_bytes(p + j * 64);
      block.w[j] = g & 1 ? high_nibbles(v) : low_nibbles(v);
    }
    block.scale = mul(d, to_f32(byte_of<g & 3>(scales[g >> 2])));
    block.min = mul(dmin, to_f32(byte_of<g & 3>(mins[g >> 2])));
    return block;
  }
};

template <>
struct Blocks<FormatQ6_K> {
  static constexpr int kCount = 8;
  const uint8_t* super;
  F32 d;

  [[gnu::always_inline]] Blocks(const FormatQ6_K& format, int64_t first, int part) {
    const PairedBlock<52 * 64> at(format.words, first >> 3);
    super = at.words + part * kLanes * 4;
    d = load_f16(at.scales + part * kLanes);
  }
  template <int g>
  [[gnu::always_inline]] FormatQ6_K::Block load() const {
    FormatQ6_K::Block block;
    FormatQ6_K::unpack<g & 3>(super + (g >> 2) * 16 * 64, super + (32 + (g >> 2) * 8) * 64, block.w);
    // Scales 2g and 2g + 1 of the super-block: two bytes of word g / 2, sign-extended.
    const I32 scales = iload(reinterpret_cast<const int32_t*>(super + (48 + g / 2) * 64));
    block.scale[0] = mul(d, to_f32(sar<24>(shl<g & 1 ? 8 : 24>(scales))));
    block.scale[1] = mul(d, to_f32(sar<24>(shl<g & 1 ? 0 : 16>(scales))));
    return block;
  }
};

template <typename Format, int kColumns>
inline void few_columns(const Format& format, const MatmulArgs& a, int64_t group, int64_t m0) {
  constexpr int kCount = Blocks<Format>::kCount;
  const Int8Rows x = *a.x_int8;
  F32 acc[kColumns * kParts];
  unroll<kColumns * kParts>([&](auto i) { acc[i.value] = zero(); });
  for (int64_t b = 0; b < a.k / 32; b += kCount)
    unroll<kParts>([&](auto part) __attribute__((always_inline)) {
      const Blocks<Format> blocks{format, b, part.value};
      unroll<kCount>([&](auto g) __attribute__((always_inline)) {
        if constexpr (part.value == 0) prefetch_ahead<Format::kBlockBytes, kColumns>(format, b + g.value);
        forget_loads();
        const typename Format::Block block = blocks.template load<g.value>();
        unroll<kColumns>([&](auto c) __attribute__((always_inline)) {
          F32& sum = acc[c.value * kParts + part.value];
          sum = apply<Format>(block, column_at<Format>(x, b + g.value, m0 + c.value), sum);
        });
      });
    });
  for (int c = 0; c < kColumns; ++c)
    store_group(acc + c * kParts, a.y + (m0 + c) * a.y_stride + group * kGroupRows, a.n - group * kGroupRows);
}
