// The matmul kernels over the vector wrapper. Included once per instruction set, inside its
// namespace, after its wrapper. No other include: nothing inline may leak between sets.
//
// A lane is a row of W.

// ---- integer formats --------------------------------------------------------------------------
//
// A format gives: Block (the codes and scales of 32 values of kLanes rows) and load() of one; how many
// runs of codes have a scale of their own (kRuns); dot(), the integer sum of a run with its offset taken
// off, and start(), that offset alone; and finish(): acc plus a run's share of one output. The columns of
// a block are the inner loop, so the codes are unpacked once per block and tile of columns.

struct Column {  // what a block of x offers, at one column
  const int8_t* q;
  float d, negative_dsum;
  int32_t negative_sum;
  int32_t half_sum[2];
  float half_dsum[2];
};

// A block of a layout whose scales go before each pair of blocks.
template <int kPayload>
struct PairedBlock {
  const uint8_t* words;
  const uint16_t* scales;
  PairedBlock(const uint8_t* group, int64_t b) {
    const uint8_t* pair = group + (b >> 1) * (2 * kPayload + 64);
    words = pair + 64 + (b & 1) * kPayload;
    scales = reinterpret_cast<const uint16_t*>(pair + (b & 1) * 32);
  }
};

struct FormatQ8_0 {
  static constexpr int kBlockBytes = 512 + 32;
  static constexpr int kRuns = 1;
  static constexpr bool kMin = false;
  const uint8_t* words;
  struct Block { SignedBlock<8> w; F32 scale; };

  FormatQ8_0(const MatmulArgs& a, int64_t group)
      : words(a.weights + group * group_bytes(kLayoutQ8_0, a.k)) {}
  Block load(int64_t b, int part) const {
    const PairedBlock<512> at(words, b);
    return {load_signed<8>(at.words + part * kLanes * 4, 64), load_f16(at.scales + part * kLanes)};
  }
  static I32 start(const Column& x, int) { return signed_start(x.negative_sum); }
  static const auto* codes(const Block& block, int) { return block.w.w; }
  static I32 dot(const Block& block, int, const Column& x) { return dot_signed<8>(block.w, x.q, x.negative_sum); }
  static F32 finish(const Block& block, int, I32 s, const Column& x, F32 acc) {
    return fma(to_f32(s), mul(block.scale, set1(x.d)), acc);
  }
};

struct FormatQ4_0 {
  static constexpr int kBlockBytes = 256 + 32;
  static constexpr int kRuns = 1;
  static constexpr bool kMin = false;
  const uint8_t* words;
  struct Block { Bytes w[8]; F32 scale; };

  FormatQ4_0(const MatmulArgs& a, int64_t group)
      : words(a.weights + group * group_bytes(kLayoutQ4_0, a.k)) {}
  Block load(int64_t b, int part) const {
    Block block;
    const PairedBlock<256> at(words, b);
    const uint8_t* p = at.words + part * kLanes * 4;
    for (int j = 0; j < 4; ++j) {
      const Bytes v = load_bytes(p + j * 64);
      block.w[j] = low_nibbles(v);
      block.w[j + 4] = high_nibbles(v);
    }
    block.scale = load_f16(at.scales + part * kLanes);
    return block;
  }
  // Codes stand for code - 8.
  static I32 start(const Column& x, int) { return shl<3>(iset1(x.negative_sum)); }
  static const auto* codes(const Block& block, int) { return block.w; }
  static I32 dot(const Block& block, int, const Column& x) { return dot_block<15, 8>(block.w, x.q, start(x, 0)); }
  static F32 finish(const Block& block, int, I32 s, const Column& x, F32 acc) {
    return fma(to_f32(s), mul(block.scale, set1(x.d)), acc);
  }
};

// A super-block of 256 values is 36 words: d and dmin (f16 each), 3 words of 6-bit scales and
// minima, 32 words of nibbles. Words of scales, bytes low to high: word 0 has the scales of groups
// 0-3 in its low 6 bits, word 1 their minima, word 2 the low 4 bits of the scales (low nibble) and
// minima (high nibble) of groups 4-7, whose top 2 bits are the top 2 bits of words 0 and 1.
struct FormatQ4_K {
  static constexpr int kBlockBytes = 36 * 64 / 8;
  static constexpr int kRuns = 1;
  static constexpr bool kMin = true;
  const uint8_t* words;
  struct Block { Bytes w[8]; F32 scale, min; };

  FormatQ4_K(const MatmulArgs& a, int64_t group) : words(a.weights + group * (a.k / 256 * 144 * kGroupRows)) {}
  Block load(int64_t b, int part) const {
    Block block;
    const uint8_t* super = words + (b >> 3) * (36 * 64) + part * kLanes * 4;
    const int g = static_cast<int>(b & 7);
    // Nibbles: 8 words serve groups 2i (low) and 2i + 1 (high).
    const uint8_t* p = super + 4 * 64 + (g >> 1) * 512;
    if (g & 1) {
      for (int j = 0; j < 8; ++j) block.w[j] = high_nibbles(load_bytes(p + j * 64));
    } else {
      for (int j = 0; j < 8; ++j) block.w[j] = low_nibbles(load_bytes(p + j * 64));
    }
    const I32 s0 = iload(reinterpret_cast<const int32_t*>(super + 64));
    const I32 s1 = iload(reinterpret_cast<const int32_t*>(super + 128));
    const int shift = 8 * (g & 3);
    I32 scale, min;
    if (g < 4) {
      scale = iand(shr(s0, shift), iset1(63));
      min = iand(shr(s1, shift), iset1(63));
    } else {
      const I32 s2 = shr(iload(reinterpret_cast<const int32_t*>(super + 192)), shift);
      scale = ior(iand(s2, iset1(15)), iand(shr<2>(shr(s0, shift)), iset1(48)));
      min = ior(iand(shr<4>(s2), iset1(15)), iand(shr<2>(shr(s1, shift)), iset1(48)));
    }
    F32 d, dmin;
    load_f16_pairs(super, d, dmin);
    block.scale = mul(d, to_f32(scale));
    block.min = mul(dmin, to_f32(min));
    return block;
  }
  static I32 start(const Column&, int) { return iset1(0); }
  static const auto* codes(const Block& block, int) { return block.w; }
  static I32 dot(const Block& block, int, const Column& x) { return dot_block<15, 8>(block.w, x.q, iset1(0)); }
  static F32 finish(const Block& block, int, I32 s, const Column& x, F32 acc) {
    acc = fma(to_f32(s), mul(block.scale, set1(x.d)), acc);
    return fma(block.min, set1(x.negative_dsum), acc);
  }
};

// A super-block of 256 values is 52 words: 32 of low nibbles, 16 of high bit pairs, 4 of int8
// scales, one per 16 values; its f16 scale is in the line before the pair. Values 128 h + 32 p + i (p < 4) have
// their nibbles in words 16 h + 8 (p & 1) + i / 4, low for p < 2, and their bit pairs at 2 p of
// words 8 h + i / 4. Codes stand for code - 32.
struct FormatQ6_K {
  static constexpr int kBlockBytes = 52 * 64 / 8;
  static constexpr int kRuns = 2;
  static constexpr bool kMin = false;
  const uint8_t* words;
  struct Block { Bytes w[8]; F32 scale[2]; };

  FormatQ6_K(const MatmulArgs& a, int64_t group)
      : words(a.weights + group * group_bytes(kLayoutQ6_K, a.k)) {}
  template <int p>
  static void unpack(const uint8_t* low, const uint8_t* high, Bytes* w) {
    for (int j = 0; j < 8; ++j) {
      const Bytes nibbles = load_bytes(low + (8 * (p & 1) + j) * 64);
      w[j] = or_bytes(p < 2 ? low_nibbles(nibbles) : high_nibbles(nibbles),
                      two_bits_to_high<2 * p>(load_bytes(high + j * 64)));
    }
  }
  Block load(int64_t b, int part) const {
    Block block;
    const PairedBlock<52 * 64> at(words, b >> 3);
    const uint8_t* super = at.words + part * kLanes * 4;
    const int h = static_cast<int>(b >> 2 & 1), p = static_cast<int>(b & 3);
    const uint8_t* low = super + h * 16 * 64;
    const uint8_t* high = super + (32 + h * 8) * 64;
    if (p == 0) unpack<0>(low, high, block.w);
    if (p == 1) unpack<1>(low, high, block.w);
    if (p == 2) unpack<2>(low, high, block.w);
    if (p == 3) unpack<3>(low, high, block.w);
    // Scales 2b and 2b + 1 of the super-block: two bytes of word b / 2, sign-extended.
    const int g = static_cast<int>(b & 7);
    const I32 pair = shr(iload(reinterpret_cast<const int32_t*>(super + (48 + g / 2) * 64)), 16 * (g & 1));
    const F32 d = load_f16(at.scales + part * kLanes);
    block.scale[0] = mul(d, to_f32(sar<24>(shl<24>(pair))));
    block.scale[1] = mul(d, to_f32(sar<24>(shl<16>(pair))));
    return block;
  }
  static I32 start(const Column& x, int half) { return shl<5>(iset1(x.half_sum[half])); }
  static const auto* codes(const Block& block, int half) { return block.w + 4 * half; }
  static I32 dot(const Block& block, int half, const Column& x) {
    return dot_block<63, 4>(block.w + 4 * half, x.q + 16 * half, start(x, half));
  }
  static F32 finish(const Block& block, int half, I32 s, const Column& x, F32 acc) {
    return fma(to_f32(s), mul(block.scale[half], set1(x.d)), acc);
  }
};

// Expanded groups of any other format, with minima or without (where 0 would be added: 0 times an
// overflow is not 0).
template <bool kWithMin>
struct FormatTile32 {
  static constexpr int kBlockBytes = 0;  // expanded just now: in the cache
  static constexpr int kRuns = 1;
  static constexpr bool kMin = kWithMin;
  const TileGroup& tile;
  struct Block { SignedBlock<8> w; F32 scale, min; };

  FormatTile32(const MatmulArgs& a, int64_t) : tile(*a.tile) {}
  Block load(int64_t b, int part) const {
    const auto* p = reinterpret_cast<const uint8_t*>(tile.q) + b * 512 + part * kLanes * 4;
    return {load_signed<8>(p, 64), venturi_isa::load(tile.scale + b * 16 + part * kLanes),
            kMin ? venturi_isa::load(tile.min + b * 16 + part * kLanes) : zero()};
  }
  static I32 start(const Column& x, int) { return signed_start(x.negative_sum); }
  static const auto* codes(const Block& block, int) { return block.w.w; }
  static I32 dot(const Block& block, int, const Column& x) { return dot_signed<8>(block.w, x.q, x.negative_sum); }
  static F32 finish(const Block& block, int, I32 s, const Column& x, F32 acc) {
    acc = fma(to_f32(s), mul(block.scale, set1(x.d)), acc);
    return kMin ? fma(block.min, set1(x.negative_dsum), acc) : acc;
  }
};

template <bool kWithMin>
struct FormatTile16 {
  static constexpr int kBlockBytes = 0;
  static constexpr int kRuns = 2;
  static constexpr bool kMin = kWithMin;
  const TileGroup& tile;
  struct Block { SignedBlock<4> w[2]; F32 scale[2], min[2]; };

  FormatTile16(const MatmulArgs& a, int64_t) : tile(*a.tile) {}
  Block load(int64_t b, int part) const {
    Block block;
    for (int half = 0; half < 2; ++half) {
      const auto* p = reinterpret_cast<const uint8_t*>(tile.q) + b * 512 + half * 256 + part * kLanes * 4;
      const int64_t at = (2 * b + half) * 16 + part * kLanes;
      block.w[half] = load_signed<4>(p, 64);
      block.scale[half] = venturi_isa::load(tile.scale + at);
      block.min[half] = kMin ? venturi_isa::load(tile.min + at) : zero();
    }
    return block;
  }
  static I32 start(const Column& x, int half) { return signed_start(x.half_sum[half]); }
  static const auto* codes(const Block& block, int half) { return block.w[half].w; }
  static I32 dot(const Block& block, int half, const Column& x) {
    return dot_signed<4>(block.w[half], x.q + 16 * half, x.half_sum[half]);
  }
  static F32 finish(const Block& block, int half, I32 s, const Column& x, F32 acc) {
    acc = fma(to_f32(s), mul(block.scale[half], set1(x.d)), acc);
    return kMin ? fma(block.min[half], set1(x.half_dsum[half]), acc) : acc;
  }
};

// Columns of a tile. The sums of a tile are 64 * 16 * 4 = 4 kB and its slice of x is 64 * 32 bytes
// a block: both stay in the L1 cache while the codes of one block are in registers.
constexpr int kTileColumns = 64;

// Asks for the lines of the block kAheadBytes on, and for those of kFarBytes on into the second cache.
// The hardware prefetcher alone leaves a third of the memory bandwidth unused, since a core's window of
// instructions spans too few blocks; lines asked for once only hold up the few buffers between the first
// cache and the second for the whole latency of memory. Groups lie one after another, so running past the
// end of one asks for the next.
constexpr int kAheadBytes = 4096, kFarBytes = 16384;
// Where arithmetic is what takes the time (minima, more than two columns; tiles of no fixed width), once is cheaper.
template <int kBlockBytes, int kColumns, typename Format>
inline void prefetch_ahead(const Format& format, int64_t b) {
  if constexpr (kBlockBytes > 0) {
    constexpr bool kFar = kColumns > 0 && (kColumns <= 2 || !Format::kMin);
    const uint8_t* p = format.words + b * kBlockBytes;
    for (int line = 0; line < kBlockBytes; line += 64) prefetch(p + (kFar ? kAheadBytes : 2 * kAheadBytes) + line);
    if constexpr (kFar)
      for (int line = 0; line < kBlockBytes; line += 64) prefetch_far(p + kFarBytes + line);
  }
}

// What block b of x has at column m.
template <typename Format>
[[gnu::always_inline]] inline Column column_at(const Int8Rows& x, int64_t b, int64_t m) {
  const int64_t at = b * x.rows + m;
  Column column{};
  column.q = x.q + at * 32;
  column.d = x.d[at];
  if constexpr (Format::kRuns == 2) {
    const int64_t half = 2 * b * x.rows + m;
    column.half_sum[0] = x.half_sum[half];
    column.half_sum[1] = x.half_sum[half + x.rows];
    if constexpr (Format::kMin) {
      column.half_dsum[0] = x.half_dsum[half];
      column.half_dsum[1] = x.half_dsum[half + x.rows];
    }
  } else {
    column.negative_sum = x.negative_sum[at];
    if constexpr (Format::kMin) column.negative_dsum = x.negative_dsum[at];
  }
  return column;
}

// acc and what block b adds to it.
template <typename Format>
[[gnu::always_inline]] inline F32 apply(const typename Format::Block& block, const Column& x, F32 acc) {
  for (int run = 0; run < Format::kRuns; ++run) acc = Format::finish(block, run, Format::dot(block, run, x), x, acc);
  return acc;
}

// kFixed columns with their sums in registers, or (0) up to kTileColumns with them in L1.
template <typename Format, int kFixed>
inline void int_tile(const Format& format, const MatmulArgs& a, int64_t group, int64_t m0, int columns_in) {
  const Int8Rows& x = *a.x_int8;
  const int columns = kFixed ? kFixed : columns_in;
  F32 acc[(kFixed ? kFixed : kTileColumns) * kParts];
  for (int i = 0; i < columns * kParts; ++i) acc[i] = zero();
  const int64_t blocks = a.k / 32;
  for (int64_t b = 0; b < blocks; ++b) {
    prefetch_ahead<Format::kBlockBytes, kFixed>(format, b);
    for (int part = 0; part < kParts; ++part) {
      const typename Format::Block block = format.load(b, part);
#pragma GCC unroll 2
      for (int c = 0; c < columns; ++c) {
        const Column column = column_at<Format>(x, b, m0 + c);
        F32& sum = acc[c * kParts + part];
        sum = apply<Format>(block, column, sum);
      }
    }
  }
  for (int c = 0; c < columns; ++c)
    store_group(acc + c * kParts, a.y + (m0 + c) * a.y_stride + group * kGroupRows, a.n - group * kGroupRows);
}

#include "kernels/matmul/few_columns.h"
#include "kernels/matmul/wide_tile.h"

template <typename Format, int kColumns>
inline void int_columns(const Format& format, const MatmulArgs& a, int64_t group, int64_t m0) {
  if constexpr (kParts == 2) {
    few_columns<Format, kColumns>(format, a, group, m0);
  } else {
    int_tile<Format, kColumns>(format, a, group, m0, kColumns);
  }
}

template <typename Format>
void run_int(const MatmulArgs& a) {
  for (int64_t m = a.m_begin; m < a.m_end; m += kTileColumns) {
    const int64_t left = a.m_end - m;
    const int columns = static_cast<int>(left < kTileColumns ? left : kTileColumns);
    if constexpr (kWideDots)
      if (columns > 4) {
        wide_groups<Format>(a, m, columns);
        continue;
      }
    for (int64_t group = a.group_begin; group < a.group_end; ++group) {
      const Format format(a, group);
      switch (columns) {
        case 1: int_columns<Format, 1>(format, a, group, m); break;
        case 2: int_columns<Format, 2>(format, a, group, m); break;
        case 3: int_columns<Format, 3>(format, a, group, m); break;
        case 4: int_columns<Format, 4>(format, a, group, m); break;
        default: int_tile<Format, 0>(format, a, group, m, columns);
      }
    }
  }
}

// ---- float formats: float_tile.h has the register tile -----------------------------------------

// Register tiles: groups x columns, chosen so that the sums leave room for the weights and one
// broadcast: 4 x 6 (24 of 32 registers) with 16 lanes, 1 x 6 (12 of 16) with 8, 1 x 6 (24 of 32)
// with 4. One column takes the four interleaved groups at once on every set: enough independent
// chains to cover the latency of an fma, and whole cache lines.
constexpr int kPanel = 6;
constexpr int kRunGroups = 4;
constexpr int float_tile_groups(int columns) {
  if (kLanes == 16 || columns == 1) return kRunGroups;
  return columns == 2 ? 2 : 1;
}

template <typename Format, int kGroups, int kColumns>
inline void run_tile(const MatmulArgs& a, int64_t group, const float* x, int64_t x_step, int64_t m0) {
  using Value = typename Format::Value;
  const Value* w = reinterpret_cast<const Value*>(a.weights) + group / kRunGroups * kRunGroups * a.k * kGroupRows +
                   group % kRunGroups * kGroupRows;
  F32 acc[kColumns][kGroups * kParts];
  for (auto& column : acc)
    for (F32& sum : column) sum = zero();
  // The first tile of a run asks for the lines of all its groups.
  constexpr int kLineBytes = kColumns <= 4 ? kRunGroups * kGroupRows * static_cast<int>(sizeof(Value)) : 0;
  if (group % kRunGroups == 0) {
    float_tile<Format, kGroups, kColumns, kLineBytes>(w, kGroupRows, kRunGroups * kGroupRows, a.k, x, x_step, 1, acc,
                                                      {reinterpret_cast<const char*>(w) + kFloatAheadBytes});
  } else {
    float_tile<Format, kGroups, kColumns>(w, kGroupRows, kRunGroups * kGroupRows, a.k, x, x_step, 1, acc);
  }
  for (int c = 0; c < kColumns; ++c)
    for (int g = 0; g < kGroups; ++g)
      if (const int64_t left = a.n - (group + g) * kGroupRows; left > 0)
        store_group(acc[c] + g * kParts, a.y + (m0 + c) * a.y_stride + (group + g) * kGroupRows, left);
}

template <typename Format, int kColumns>
inline void float_columns(const MatmulArgs& a, const float* x, int64_t x_step, int64_t m0) {
  constexpr int kGroups = float_tile_groups(kColumns);
  int64_t group = a.group_begin;
  while (group < a.group_end) {
    if (group % kGroups == 0 && group + kGroups <= a.group_end) {
      run_tile<Format, kGroups, kColumns>(a, group, x, x_step, m0);
      group += kGroups;
    } else {
      run_tile<Format, 1, kColumns>(a, group, x, x_step, m0);
      ++group;
    }
  }
}

#include "kernels/matmul/float_slices.h"
#include "kernels/matmul/float_several.h"

template <typename Format>
void run_float(const MatmulArgs& a) {
  if constexpr (sizeof(typename Format::Value) == 2)
    if (a.m_end - a.m_begin >= kSliceFrom) return run_slices<Format>(a);
  const FloatPanels& panels = *a.x_float;
  for (int64_t m = a.m_begin; m < a.m_end; m += kPanel) {
    const float* x = panels.x + (m / panels.panel) * panels.panel * a.k;
    int64_t left = a.m_end - m, done = 0;
    if constexpr (kLanes == 16 && sizeof(typename Format::Value) == 2) {
      if (left == 5) return several_columns<Format, 5>(a, m);
      if (left == 6) return several_columns<Format, 6>(a, m);
      if (left == 7) return several_columns<Format, 7>(a, m);
      if (left == 8) return several_columns<Format, 8>(a, m);
    }
    if (left >= kPanel) {
      float_columns<Format, kPanel>(a, x, panels.panel, m);
      continue;
    }
    while (left >= 4) {
      float_columns<Format, 4>(a, x + done, panels.panel, m + done);
      left -= 4;
      done += 4;
    }
    if (left >= 2) {
      float_columns<Format, 2>(a, x + done, panels.panel, m + done);
      left -= 2;
      done += 2;
    }
    if (left) float_columns<Format, 1>(a, x + done, panels.panel, m + done);
  }
}

// ---- rounding of inputs -----------------------------------------------------------------------

void round_int8(const float* x, int64_t stride, int64_t m_begin, int64_t m_end, bool halves, const Int8Rows& out) {
  constexpr int kVectors = 32 / kLanes;
  for (int64_t m = m_begin; m < m_end; ++m) {
    for (int64_t b = 0; b < out.k / 32; ++b) {
      const float* p = x + m * stride + b * 32;
      F32 v[kVectors];
      F32 top = zero(), watch = zero();
      for (int i = 0; i < kVectors; ++i) {
        v[i] = venturi_isa::load(p + i * kLanes);
        top = max(abs(v[i]), top);
        watch = add(watch, mul(v[i], zero()));  // 0, or NaN once anything is not finite
      }
      const bool finite = reduce_max(select_less(watch, set1(1), zero(), set1(1))) == 0;
      const float amax = reduce_max(top);
      // 127 / amax has to be finite, or q would not be in [-127, 127].
      const bool any = finite && amax >= kLeastInput;
      const float d = !finite ? __builtin_nanf("") : any ? amax / 127.0f : 0.0f;
      const float inverse = any ? 127.0f / amax : 0.0f;
      int8_t* q = out.q + (b * out.rows + m) * 32;
      int32_t sums[2] = {0, 0};
      for (int i = 0; i < kVectors; ++i)
        store_i8(q + i * kLanes, finite ? to_i32(mul(v[i], set1(inverse))) : iset1(0));
      for (int i = 0; i < 16; ++i) sums[0] -= q[i];
      for (int i = 16; i < 32; ++i) sums[1] -= q[i];
      const int64_t at = b * out.rows + m;
      out.d[at] = d;
      out.negative_sum[at] = sums[0] + sums[1];
      out.negative_dsum[at] = d * static_cast<float>(sums[0] + sums[1]);
      if (halves) {
        for (int half = 0; half < 2; ++half) {
          out.half_sum[(2 * b + half) * out.rows + m] = sums[half];
          out.half_dsum[(2 * b + half) * out.rows + m] = d * static_cast<float>(sums[half]);
        }
      }
    }
  }
}

constexpr MatmulTable make_table() {
  MatmulTable table{};
#define VENTURI_MATMUL(name, format, kind) table.run[static_cast<int>(MatmulKernel::k##name)] = run_##kind<format>;
#include "kernels/matmul/kernels.inc"
#undef VENTURI_MATMUL
  table.round_int8 = round_int8;
  table.float_panel = kPanel;
  return table;
}
