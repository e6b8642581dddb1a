// The column kernels over the vector wrapper; included once per instruction set, inside its
// namespace, after float_tile.h. A lane is an output.

// A format gives a part of a strip, kVectors vectors of outputs: sums(), which adds the products of one
// block in integers, and where the outputs of a vector lie.

struct ColumnsQ4_0 {
  static constexpr int kVectors = 8;                  // four nibbles of 2 * kLanes words
  static constexpr int kParts = 16 / kLanes;
  static int64_t output(int part, int v) { return v / 2 * 32 + part * 2 * kLanes + v % 2 * kLanes; }

  // Codes stand for code - 8. A block's sum is at most 32 * 8 * 127 < 2^15, so 16 bits hold it,
  // whatever they pass through on the way.
  static void sums(const ColumnsArgs& a, int64_t strip, int part, uint32_t begin, uint32_t end, int32_t negative_sum,
                   I32 (&s)[kVectors]) {
    const I16 nibble = wset1(15);
    I16 sum[4];
    for (I16& v : sum) v = wset1(8 * negative_sum);
    const int64_t offset = strip * 64 + part * 4 * kLanes;
    for (uint32_t e = begin; e < end; ++e) {
      const I16 w = wload(a.columns[a.entries[e].column] + offset);
      const I16 q = wset1(a.entries[e].value);
      sum[0] = wadd(sum[0], wmul(wand(w, nibble), q));
      sum[1] = wadd(sum[1], wmul(wand(wshr<4>(w), nibble), q));
      sum[2] = wadd(sum[2], wmul(wand(wshr<8>(w), nibble), q));
      sum[3] = wadd(sum[3], wmul(wshr<12>(w), q));
    }
    for (int i = 0; i < 4; ++i) {
      s[2 * i] = widen_low(sum[i]);
      s[2 * i + 1] = widen_high(sum[i]);
    }
  }
};

struct ColumnsQ8_0 {
  static constexpr int kVectors = 4;
  static constexpr int kParts = kStripOutputs / (kVectors * kLanes);
  static int64_t output(int part, int v) { return (part * kVectors + v) * kLanes; }

  static void sums(const ColumnsArgs& a, int64_t strip, int part, uint32_t begin, uint32_t end, int32_t,
                   I32 (&s)[kVectors]) {
    for (I32& v : s) v = iset1(0);
    const int64_t offset = strip * kStripOutputs + output(part, 0);
    for (uint32_t e = begin; e < end; ++e) {
      const auto* w = reinterpret_cast<const int8_t*>(a.columns[a.entries[e].column]) + offset;
      for (int v = 0; v < kVectors; ++v) s[v] = imul_add(s[v], load_i8(w + v * kLanes), a.entries[e].value);
    }
  }
};

template <typename Format>
inline void int_strip(const ColumnsArgs& a, int64_t m, int64_t strip, float* y) {
  for (int part = 0; part < Format::kParts; ++part) {
    F32 acc[Format::kVectors];
    for (int v = 0; v < Format::kVectors; ++v) acc[v] = venturi_isa::load(y + Format::output(part, v));
    for (int64_t b = 0; b < a.blocks; ++b) {
      const float d = a.d[b * a.rows + m];
      if (d == 0) continue;  // NaN goes on, as it does in a dense product
      I32 s[Format::kVectors];
      const uint32_t* first = a.first + m * (a.blocks + 1) + b;
      Format::sums(a, strip, part, first[0], first[1], a.negative_sum[b * a.rows + m], s);
      const uint16_t* scales = a.scales[b] + strip * kStripOutputs;
      for (int v = 0; v < Format::kVectors; ++v)
        acc[v] = fma(to_f32(s[v]), mul(load_f16(scales + Format::output(part, v)), set1(d)), acc[v]);
    }
    for (int v = 0; v < Format::kVectors; ++v) store(y + Format::output(part, v), acc[v]);
  }
}

template <typename Format>
inline void float_strip(const ColumnsArgs& a, int64_t m, int64_t strip, float* y) {
  constexpr int kVectors = 4;
  const uint32_t *first = a.first + m * (a.blocks + 1), begin = first[0], end = first[a.blocks];
  for (int64_t i = 0; i < kStripOutputs; i += kVectors * kLanes) {
    F32 acc[kVectors];
    for (int v = 0; v < kVectors; ++v) acc[v] = venturi_isa::load(y + i + v * kLanes);
    for (uint32_t e = begin; e < end; ++e) {
      const auto* w = reinterpret_cast<const typename Format::Value*>(a.columns[a.entries[e].column]) +
                      strip * kStripOutputs + i;
      float x;
      std::memcpy(&x, &a.entries[e].value, 4);
      for (int v = 0; v < kVectors; ++v) acc[v] = fma(Format::value(w + v * kLanes), set1(x), acc[v]);
    }
    for (int v = 0; v < kVectors; ++v) store(y + i + v * kLanes, acc[v]);
  }
}

template <auto kStrip>
void run_strips(const ColumnsArgs& a) {
  for (int64_t strip = a.strip_begin; strip < a.strip_end; ++strip)
    for (int64_t m = 0; m < a.rows; ++m) {
      float* y = a.y + m * a.y_stride + strip * kStripOutputs;
      const int64_t left = a.n - strip * kStripOutputs;
      if (left >= kStripOutputs) {
        kStrip(a, m, strip, y);
        continue;
      }
      float padded[kStripOutputs] = {};
      std::memcpy(padded, y, static_cast<size_t>(left) * sizeof(float));
      kStrip(a, m, strip, padded);
      std::memcpy(y, padded, static_cast<size_t>(left) * sizeof(float));
    }
}

constexpr ColumnsTable make_table() {
  ColumnsTable table{};
#define VENTURI_COLUMNS(name, format, kind) \
  table.run[static_cast<int>(ColumnKernel::k##name)] = run_strips<kind##_strip<format>>;
#include "kernels/columns/kernels.inc"
#undef VENTURI_COLUMNS
  return table;
}
