// Every kernel on every instruction set against the plain reference, bit by bit.
#include "kernels/matmul/matmul.h"

#include <gtest/gtest.h>

#include <cstring>
#include <limits>

#include "base/checked.h"
#include "kernels/test_support.h"

namespace venturi {
namespace {

using namespace kernel_testing;

// ---- weights: random bytes of each layout, and what they mean, by the formats' definitions
// --------

struct Weights {
  int64_t n, k;
  MatmulKernel kernel;
  const PackedLayout* layout = nullptr;  // null: tiles
  std::vector<uint8_t> rows = {};        // as a file has them
  std::vector<uint8_t> packed = {};
  // The meaning: float formats have w, the others q, scale and min per `group` values.
  std::vector<float> w = {};
  int group = 0;
  std::vector<int8_t> q = {};
  std::vector<float> scale = {}, min = {};

  int64_t row_bytes() const { return k / layout->block_elems * layout->block_bytes; }
};

uint16_t random_half(uint64_t stream, uint64_t i) {  // normal, 2^-10 to 2
  const uint64_t r = random_bits(11, stream, i);
  return static_cast<uint16_t>((r & 0x83ff) | (5 + r / 65536 % 11) << 10);
}
void put_half(uint8_t* p, uint16_t h) { std::memcpy(p, &h, 2); }
float get_half(const uint8_t* p) {
  uint16_t h;
  std::memcpy(&h, p, 2);
  return static_cast<float>(f16_value(h));
}

void mean_q8_0(const uint8_t* b, int8_t* q, float* scale, float*) {
  scale[0] = get_half(b);
  std::memcpy(q, b + 2, 32);
}
void mean_q4_0(const uint8_t* b, int8_t* q, float* scale, float*) {
  scale[0] = get_half(b);
  for (int i = 0; i < 16; ++i) {
    q[i] = static_cast<int8_t>((b[2 + i] & 15) - 8);
    q[i + 16] = static_cast<int8_t>((b[2 + i] >> 4) - 8);
  }
}
void mean_q4_k(const uint8_t* b, int8_t* q, float* scale, float* min) {
  const uint8_t* s = b + 4;
  for (int g = 0; g < 8; ++g) {
    const int sc = g < 4 ? s[g] & 63 : (s[g + 4] & 15) | (s[g - 4] >> 6) << 4;
    const int mn = g < 4 ? s[g + 4] & 63 : s[g + 4] >> 4 | (s[g] >> 6) << 4;
    scale[g] = get_half(b) * static_cast<float>(sc);
    min[g] = get_half(b + 2) * static_cast<float>(mn);
    for (int i = 0; i < 32; ++i) {
      const uint8_t byte = b[16 + g / 2 * 32 + i];
      q[g * 32 + i] = static_cast<int8_t>(g & 1 ? byte >> 4 : byte & 15);
    }
  }
}
void mean_q6_k(const uint8_t* b, int8_t* q, float* scale, float*) {
  for (int i = 0; i < 256; ++i) {
    const int h = i / 128, part = i % 128 / 32, l = i % 32;
    const uint8_t low = b[h * 64 + (part & 1) * 32 + l], high = b[128 + h * 32 + l];
    q[i] = static_cast<int8_t>(((part < 2 ? low & 15 : low >> 4) | (high >> (2 * part) & 3) << 4) -
                               32);
  }
  for (int g = 0; g < 16; ++g)
    scale[g] = get_half(b + 208) * static_cast<float>(static_cast<int8_t>(b[192 + g]));
}

struct IntFormat {
  const PackedLayout* layout;
  int group;
  bool has_min;
  void (*meaning)(const uint8_t*, int8_t*, float*, float*);
  int halves[2];  // where a block has f16 scales, -1: none
};
const IntFormat kIntFormats[] = {{&kLayoutQ8_0, 32, false, mean_q8_0, {0, -1}},
                                 {&kLayoutQ4_0, 32, false, mean_q4_0, {0, -1}},
                                 {&kLayoutQ4_K, 32, true, mean_q4_k, {0, 2}},
                                 {&kLayoutQ6_K, 16, false, mean_q6_k, {208, -1}}};

void pack(Weights& w) {
  w.packed.assign(packed_bytes(*w.layout, w.k, w.n), 0xee);
  for (int64_t row = 0; row < w.n; row += kGroupRows)
    pack_group(*w.layout, w.rows.data() + row * w.row_bytes(), w.row_bytes(),
               static_cast<int>(std::min<int64_t>(kGroupRows, w.n - row)), w.k, row / kGroupRows,
               w.packed.data());
}

Weights int_weights(const IntFormat& format, int64_t n, int64_t k) {
  Weights w{.n = n,
            .k = k,
            .kernel = format.layout->kernel,
            .layout = format.layout,
            .group = format.group};
  w.rows.resize(n * w.row_bytes());
  for (size_t i = 0; i < w.rows.size(); ++i) w.rows[i] = static_cast<uint8_t>(random_bits(1, n, i));
  w.q.resize(n * k);
  w.scale.resize(n * k / w.group);
  if (format.has_min) w.min.resize(w.scale.size());
  const int elems = w.layout->block_elems;
  float ignored[16];
  for (int64_t b = 0; b < n * k / elems; ++b) {
    uint8_t* block = w.rows.data() + b * w.layout->block_bytes;
    for (const int at : format.halves)
      if (at >= 0) put_half(block + at, random_half(n + at, b));
    const int64_t g = b * elems / w.group;
    format.meaning(block, w.q.data() + b * elems, w.scale.data() + g,
                   w.min.empty() ? ignored : w.min.data() + g);
  }
  pack(w);
  return w;
}

Weights float_weights(const PackedLayout& layout, int64_t n, int64_t k) {
  Weights w{.n = n, .k = k, .kernel = layout.kernel, .layout = &layout};
  w.rows.resize(n * w.row_bytes());
  w.w.resize(n * k);
  for (int64_t i = 0; i < n * k; ++i) {
    uint8_t* p = w.rows.data() + i * layout.block_bytes;
    const uint16_t h = random_half(n, i);
    if (layout.kernel == MatmulKernel::kF32) {
      w.w[i] = uniform(n, i);
      std::memcpy(p, &w.w[i], 4);
    } else if (layout.kernel == MatmulKernel::kF16) {
      put_half(p, h);
      w.w[i] = get_half(p);
    } else {
      const auto top = static_cast<uint16_t>(std::bit_cast<uint32_t>(uniform(n, i)) >> 16);
      put_half(p, top);
      w.w[i] = std::bit_cast<float>(static_cast<uint32_t>(top) << 16);
    }
  }
  pack(w);
  return w;
}

Weights tile_weights(int group, bool has_min, int64_t n, int64_t k) {
  Weights w{.n = n,
            .k = k,
            .kernel = group == 16 ? (has_min ? MatmulKernel::kTile16Min : MatmulKernel::kTile16)
                                  : (has_min ? MatmulKernel::kTile32Min : MatmulKernel::kTile32),
            .group = group};
  w.q.resize(n * k);
  for (size_t i = 0; i < w.q.size(); ++i)
    w.q[i] = static_cast<int8_t>(random_bits(2, n, i));  // -128 too
  w.scale = floats(n, n * k / group);
  if (has_min) w.min = floats(n + 1, n * k / group);
  return w;
}

std::vector<float> reference(const Weights& w, const std::vector<float>& x, int64_t m) {
  std::vector<float> y(m * w.n);
  if (!w.w.empty()) {
    matmul_reference_float(w.w.data(), x.data(), m, w.n, w.k, y.data());
  } else {
    matmul_reference_int8(w.q.data(), w.scale.data(), w.min.empty() ? nullptr : w.min.data(),
                          w.group, x.data(), m, w.n, w.k, y.data());
  }
  return y;
}

// ---- running a kernel
// -----------------------------------------------------------------------------

struct Tile {
  std::vector<int8_t> q;
  std::vector<float> scale, min;
};
Tile make_tile(const Weights& w, int64_t group) {
  Tile t{std::vector<int8_t>(w.k * 16), std::vector<float>(w.k / w.group * 16), {}};
  if (!w.min.empty()) t.min.resize(t.scale.size());
  for (int64_t r = 0; r < 16 && group * 16 + r < w.n; ++r) {
    const int64_t row = group * 16 + r;
    for (int64_t i = 0; i < w.k; ++i) t.q[(i / 4 * 16 + r) * 4 + i % 4] = w.q[row * w.k + i];
    for (int64_t g = 0; g < w.k / w.group; ++g) {
      t.scale[g * 16 + r] = w.scale[row * (w.k / w.group) + g];
      if (!w.min.empty()) t.min[g * 16 + r] = w.min[row * (w.k / w.group) + g];
    }
  }
  return t;
}

struct Pieces {  // how the work is cut; 0: whole
  int64_t groups = 0, rows = 0;
};

std::vector<float> product(const Weights& w, const std::vector<float>& x, int64_t m, Isa isa,
                           Pieces pieces = {}) {
  const MatmulTable& table = matmul_table(isa);
  const int64_t stride = w.n + 3;
  std::vector<float> y(m * stride, -123.0f);
  std::vector<uint8_t> rounded(Int8Rows::bytes(m, w.k) + 64);
  std::vector<float> panels(FloatPanels::bytes(m, w.k, table.float_panel) / 4);
  Int8Rows xq;
  FloatPanels xf{m, w.k, table.float_panel, panels.data()};
  if (w.w.empty()) {
    xq = Int8Rows::over(rounded.data() + (-reinterpret_cast<uintptr_t>(rounded.data()) & 63), m,
                        w.k);
    table.round_int8(x.data(), w.k, 0, m, true, xq);
  } else {
    pack_panels(x.data(), w.k, 0, m, xf);
  }
  const int64_t groups = ceil_div(w.n, kGroupRows);
  const int64_t group_step = w.layout ? (pieces.groups ? pieces.groups : groups) : 1;
  const int64_t row_step =
      pieces.rows ? round_up(pieces.rows, w.w.empty() ? 1 : table.float_panel) : m;
  for (int64_t m0 = 0; m0 < m; m0 += row_step)
    for (int64_t g = 0; g < groups; g += group_step) {
      MatmulArgs args{.weights = w.packed.data(),
                      .n = w.n,
                      .k = w.k,
                      .group_begin = g,
                      .group_end = std::min(groups, g + group_step),
                      .x_int8 = &xq,
                      .x_float = &xf,
                      .m_begin = m0,
                      .m_end = std::min(m, m0 + row_step),
                      .y = y.data(),
                      .y_stride = stride};
      Tile tile;
      TileGroup view;
      if (!w.layout) {
        tile = make_tile(w, g);
        view = {tile.q.data(), tile.scale.data(), tile.min.empty() ? nullptr : tile.min.data()};
        args.tile = &view;
      }
      table.run[static_cast<int>(w.kernel)](args);
    }
  std::vector<float> out;
  for (int64_t i = 0; i < m; ++i) {
    out.insert(out.end(), y.begin() + i * stride, y.begin() + i * stride + w.n);
    for (int64_t j = w.n; j < stride; ++j)
      EXPECT_EQ(y[i * stride + j], -123.0f) << "written past a row";
  }
  return out;
}

// Rows of very different sizes, one of zeros, one with an outlier in each block.
std::vector<float> inputs(int64_t m, int64_t k) {
  std::vector<float> x = floats(m, m * k);
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < k; ++j) {
      if (i % 7 == 3) x[i * k + j] = 0;
      if (i % 7 == 4 && j % 32 == 5) x[i * k + j] *= 300;
      if (i % 7 == 5) x[i * k + j] *= 1e-6f;
    }
  return x;
}

class MatmulTest : public IsaTest {
 protected:
  void check(const Weights& w, int64_t m, Pieces pieces = {}) {
    const auto x = inputs(m, w.k);
    EXPECT_TRUE(same_bits(product(w, x, m, GetParam(), pieces), reference(w, x, m)))
        << "kernel " << static_cast<int>(w.kernel) << ", M " << m << " N " << w.n << " K " << w.k;
  }
};
INSTANTIATE_TEST_SUITE_P(Isas, MatmulTest, testing::ValuesIn(runnable_isas()), isa_label);

std::vector<Weights> of_every_kernel(int64_t n, int64_t k256, int64_t k32, int64_t k_float) {
  std::vector<Weights> all;
  for (const IntFormat& f : kIntFormats)
    all.push_back(int_weights(f, n, f.layout->block_elems == 256 ? k256 : k32));
  for (const PackedLayout* layout : {&kLayoutF32, &kLayoutF16, &kLayoutBF16})
    all.push_back(float_weights(*layout, n, k_float));
  for (const int group : {16, 32})
    for (const bool has_min : {false, true}) all.push_back(tile_weights(group, has_min, n, k32));
  return all;
}

TEST_P(MatmulTest, EveryKernelIsTested) {
  std::vector<bool> seen(static_cast<int>(MatmulKernel::kCount));
  for (const Weights& w : of_every_kernel(1, 256, 32, 1)) seen[static_cast<int>(w.kernel)] = true;
  for (const bool s : seen) EXPECT_TRUE(s);
}

TEST_P(MatmulTest, EveryNumberOfInputRows) {
  for (const Weights& w : of_every_kernel(19, 256, 96, 37))
    for (int64_t m = 1; m <= 70; ++m) check(w, m);
  // Past what a kernel takes at once.
  for (const Weights& w : of_every_kernel(67, 256, 64, 300))
    for (const int64_t m : {95, 96, 97, 193}) check(w, m);
}

TEST_P(MatmulTest, EveryNumberOfOutputs) {
  for (const int64_t n : {1, 2, 15, 16, 17, 31, 32, 33, 47, 64, 65, 130})
    for (const Weights& w : of_every_kernel(n, 256, 64, 33)) {
      check(w, 1);
      check(w, 7);
    }
}

TEST_P(MatmulTest, EveryLengthOfRow) {
  for (const auto& [k256, k32, k_float] : {std::array<int64_t, 3>{256, 32, 1},
                                           {512, 64, 3},
                                           {768, 256, 31},
                                           {1024, 288, 64},
                                           {1280, 320, 100},
                                           {2048, 1056, 257}})
    for (const Weights& w : of_every_kernel(18, k256, k32, k_float)) {
      check(w, 1);
      check(w, 13);
    }
}

// However the work is cut, and whoever stands beside a row, its bits are the reference's.
TEST_P(MatmulTest, PiecesDoNotShow) {
  for (const Weights& w : of_every_kernel(70, 256, 64, 50))
    for (const Pieces pieces : {Pieces{1, 0}, {2, 5}, {3, 12}, {0, 1}, {4, 24}})
      check(w, 29, pieces);
}

// The comparison can fail: a sum in another order has other bits.
TEST(Matmul, AnotherOrderIsSeen) {
  const Weights w = float_weights(kLayoutF32, 16, 257);
  const auto x = inputs(2, 257);
  const auto y = reference(w, x, 2);
  std::vector<float> backwards(2 * 16);
  for (int i = 0; i < 2; ++i)
    for (int j = 0; j < 16; ++j)
      for (int64_t t = 256; t >= 0; --t)
        backwards[i * 16 + j] = std::fma(w.w[j * 257 + t], x[i * 257 + t], backwards[i * 16 + j]);
  EXPECT_FALSE(same_bits(y, backwards));
  for (int i = 0; i < 32; ++i) EXPECT_NEAR(y[i], backwards[i], 257 * 0x1p-24);

  Weights q = tile_weights(32, false, 16, 256);
  const auto xq = inputs(1, 256);
  const auto forward = reference(q, xq, 1);
  // The same blocks, last first, against x reversed likewise.
  auto turned = xq;
  for (int b = 0; b < 8; ++b) std::copy_n(xq.begin() + 32 * b, 32, turned.begin() + 32 * (7 - b));
  Weights r = q;
  for (int j = 0; j < 16; ++j)
    for (int b = 0; b < 8; ++b) {
      std::copy_n(q.q.begin() + j * 256 + 32 * b, 32, r.q.begin() + j * 256 + 32 * (7 - b));
      r.scale[j * 8 + 7 - b] = q.scale[j * 8 + b];
    }
  EXPECT_FALSE(same_bits(forward, reference(r, turned, 1)));
}

// ---- layouts
// --------------------------------------------------------------------------------------

TEST(Layout, UnpackIsTheInverseOfPack) {
  for (const PackedLayout* layout : all_layouts())
    for (const int n_rows : {1, 7, 15, 16, 17, 70})
      for (const int blocks : {1, 2, 5, 300}) {
        const int64_t k = int64_t{blocks} * layout->block_elems,
                      row_bytes = int64_t{blocks} * layout->block_bytes;
        const int64_t stride = row_bytes + 3, bytes = packed_bytes(*layout, k, n_rows);
        const int padded = (n_rows + 15) / 16 * 16;
        std::vector<uint8_t> rows(n_rows * stride), packed(bytes + 8, 0xab), back(row_bytes);
        for (size_t i = 0; i < rows.size(); ++i)
          rows[i] = static_cast<uint8_t>(random_bits(3, blocks, i));
        for (int r = 0; r < n_rows; r += 16)
          pack_group(*layout, rows.data() + r * stride, stride, std::min(16, n_rows - r), k, r / 16,
                     packed.data());
        for (int r = 0; r < padded; ++r) {
          unpack_row(*layout, packed.data(), r, k, back.data());
          const std::vector<uint8_t> expected =
              r < n_rows ? std::vector<uint8_t>(rows.begin() + r * stride,
                                                rows.begin() + r * stride + row_bytes)
                         : std::vector<uint8_t>(row_bytes, 0);
          ASSERT_EQ(back, expected) << layout->name << " row " << r << " of " << n_rows;
        }
        for (size_t i = bytes; i < packed.size(); ++i) ASSERT_EQ(packed[i], 0xab) << layout->name;
      }
}

// ---- rounding
// -------------------------------------------------------------------------------------

TEST_P(MatmulTest, RoundingFollowsItsDefinition) {
  constexpr int64_t kRows = 9, kK = 96, kBlocks = kK / 32;
  auto x = inputs(kRows, kK);
  for (int i = 0; i < 32; ++i) x[i] = static_cast<float>(i) - 15.5f;  // ties …
  x[31] = 127.0f;                                                     // … since the factor is 1
  std::vector<uint8_t> buffer(Int8Rows::bytes(kRows, kK) + 64, 0x55);
  const Int8Rows out =
      Int8Rows::over(buffer.data() + (-reinterpret_cast<uintptr_t>(buffer.data()) & 63), kRows, kK);
  matmul_table(GetParam()).round_int8(x.data(), kK, 0, 4, true, out);
  matmul_table(GetParam()).round_int8(x.data(), kK, 4, kRows, true, out);
  for (int64_t b = 0; b < kBlocks; ++b)
    for (int64_t m = 0; m < kRows; ++m) {
      const float* p = x.data() + m * kK + b * 32;
      float amax = 0;
      for (int i = 0; i < 32; ++i) amax = std::max(amax, std::fabs(p[i]));
      const int64_t at = b * kRows + m;
      EXPECT_EQ(out.d[at], amax / 127.0f);
      int sums[2] = {0, 0};
      for (int i = 0; i < 32; ++i) {
        const int expected =
            amax > 0 ? static_cast<int>(std::nearbyint(p[i] * (127.0f / amax))) : 0;
        ASSERT_EQ(out.q[at * 32 + i], expected) << m << " " << b << " " << i;
        ASSERT_LE(std::abs(out.q[at * 32 + i]), 127);
        sums[i / 16] += expected;
      }
      EXPECT_EQ(out.negative_sum[at], -sums[0] - sums[1]);
      EXPECT_EQ(out.negative_dsum[at], out.d[at] * static_cast<float>(-sums[0] - sums[1]));
      for (int half = 0; half < 2; ++half) {
        EXPECT_EQ(out.half_sum[(2 * b + half) * kRows + m], -sums[half]);
        EXPECT_EQ(out.half_dsum[(2 * b + half) * kRows + m],
                  out.d[at] * static_cast<float>(-sums[half]));
      }
    }
}

TEST_P(MatmulTest, WhatIsNotFiniteComesOutAsNan) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  for (const Weights& w : of_every_kernel(18, 256, 64, 40)) {
    if (!w.w.empty()) continue;
    for (const float bad : {kInf, -kInf, std::numeric_limits<float>::quiet_NaN()})
      for (const int at : {0, 7, 19, 31}) {
        auto x = inputs(3, w.k);
        x[w.k + 32 + at] = bad;
        const auto y = product(w, x, 3, GetParam());
        EXPECT_TRUE(same_bits(y, reference(w, x, 3)));
        for (int64_t i = 0; i < 3 * w.n; ++i) EXPECT_EQ(std::isnan(y[i]), i / w.n == 1) << i;
      }
  }
}

TEST_P(MatmulTest, TinyAndHugeInputs) {
  for (const Weights& w : of_every_kernel(18, 256, 64, 40))
    for (const float size : {0x1p-149f, 0x1p-127f, 1e-37f, 0x1p-101f, 0x1p-99f, 1e30f, 1e34f}) {
      const auto x = floats(5, w.k, size);
      EXPECT_TRUE(same_bits(product(w, x, 1, GetParam()), reference(w, x, 1))) << size;
    }
}

// Codes of x up to 127 whose sum times d overflows: only a format with minima may see that.
TEST_P(MatmulTest, InputsNearTheLargestFloat) {
  for (Weights& w : of_every_kernel(18, 256, 64, 40)) {
    if (w.layout || !w.min.empty()) continue;
    // Of both signs in turn and equal, so that the products cancel and only the sum of x is huge.
    const std::vector<float> x(3 * w.k, 3e38f);
    for (size_t i = 0; i < w.q.size(); ++i) w.q[i] = i % 2 ? 1 : -1;
    const auto y = product(w, x, 3, GetParam());
    EXPECT_TRUE(same_bits(y, reference(w, x, 3)));
    for (const float v : y) EXPECT_EQ(v, 0.0f);
  }
}

}  // namespace
}  // namespace venturi
