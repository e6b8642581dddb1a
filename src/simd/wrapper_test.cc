// Every function of every instruction set this machine runs, against the portable one, bit by bit;
// and the portable one against plain arithmetic.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "base/random.h"
#include "simd/probe_test.h"

namespace venturi {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

float float_of(uint32_t bits) { return std::bit_cast<float>(bits); }

// Signs of zero, subnormals, the ends of the range, ties; infinities and NaN only where asked.
std::vector<float> edges(bool infinite) {
  std::vector<float> v = {0.0f,          0x1p-149f,
                          0x1p-130f,     0x1.fffffcp-127f,
                          0x1p-126f,     1e-20f,
                          0x1p-24f,      0x1p-14f,
                          0x1p-1f,       1.0f,
                          1.5f,          2.5f,
                          3.5f,          127.5f,
                          65504.0f,      65520.0f,
                          1e10f,         0x1.fffffep127f,
                          0x1.000002p0f, 8388607.5f,
                          8388608.0f,    3.14159265f};
  if (infinite) v.insert(v.end(), {kInf, kNan});
  const size_t n = v.size();
  for (size_t i = 0; i < n; ++i) v.push_back(-v[i]);
  return v;
}

// Random bit patterns; finite unless asked.
std::vector<float> any_floats(uint64_t stream, int n, bool infinite) {
  std::vector<float> v;
  for (uint64_t i = 0; static_cast<int>(v.size()) < n; ++i) {
    const float f = float_of(static_cast<uint32_t>(random_bits(1, stream, i)));
    if (std::isfinite(f) || infinite) v.push_back(f);
  }
  return v;
}

void pad16(std::vector<float>& v) { v.resize((v.size() + 15) / 16 * 16, 1.0f); }

std::vector<int32_t> any_ints(uint64_t stream, int n) {
  std::vector<int32_t> v(n);
  for (int i = 0; i < n; ++i) v[i] = static_cast<int32_t>(random_bits(2, stream, i));
  const int32_t special[] = {0,         1,         -1,  127,   128,   -128,   -129,
                             INT32_MAX, INT32_MIN, 255, 32767, 32768, -32769, 16777217};
  std::copy(std::begin(special), std::end(special), v.begin());
  return v;
}

std::vector<uint8_t> any_bytes(uint64_t stream, int n) {
  std::vector<uint8_t> v(n);
  for (int i = 0; i < n; ++i) v[i] = static_cast<uint8_t>(random_bits(3, stream, i));
  return v;
}

// Same bits, or NaN on both sides: which NaN is the machine's affair.
template <typename T>
testing::AssertionResult same(const std::vector<T>& a, const std::vector<T>& b) {
  for (size_t i = 0; i < a.size(); ++i) {
    if constexpr (std::is_same_v<T, float>) {
      if (std::isnan(a[i]) && std::isnan(b[i])) continue;
      if (std::bit_cast<uint32_t>(a[i]) != std::bit_cast<uint32_t>(b[i]))
        return testing::AssertionFailure() << "at " << i << ": " << a[i] << " and " << b[i];
    } else if (a[i] != b[i]) {
      return testing::AssertionFailure() << "at " << i << ": " << +a[i] << " and " << +b[i];
    }
  }
  return testing::AssertionSuccess();
}

class WrapperTest : public testing::TestWithParam<Isa> {
 protected:
  const SimdProbe& probe = *simd_probe(GetParam());
  const SimdProbe& plain = *simd_probe(Isa::kPortable);

  template <typename Call>
  void expect_same_floats(const char* name, int64_t n, Call call) {
    std::vector<float> ours(n, -7.0f), theirs(n, 7.0f);
    call(probe, ours.data());
    call(plain, theirs.data());
    EXPECT_TRUE(same(ours, theirs)) << name;
  }
  template <typename T, typename Call>
  void expect_same(const char* name, int64_t n, Call call) {
    std::vector<T> ours(n, T{1}), theirs(n, T{2});
    call(probe, ours.data());
    call(plain, theirs.data());
    EXPECT_TRUE(same(ours, theirs)) << name;
  }
};

std::string isa_label(const testing::TestParamInfo<Isa>& info) {
  return std::string(isa_name(info.param));
}
INSTANTIATE_TEST_SUITE_P(Isas, WrapperTest, testing::ValuesIn(runnable_isas()), isa_label);

using Map1 = void (*SimdProbe::*)(const float*, float*, int64_t);
using Map2 = void (*SimdProbe::*)(const float*, const float*, float*, int64_t);

TEST_P(WrapperTest, OneOperand) {
  auto a = edges(true);
  const auto random = any_floats(1, 20000, true);
  a.insert(a.end(), random.begin(), random.end());
  pad16(a);
  const std::pair<const char*, Map1> ops[] = {{"abs", &SimdProbe::abs},
                                              {"sqrt", &SimdProbe::sqrt},
                                              {"round", &SimdProbe::round},
                                              {"exp", &SimdProbe::exp},
                                              {"tanh", &SimdProbe::tanh},
                                              {"sigmoid", &SimdProbe::sigmoid},
                                              {"bits", &SimdProbe::bits_round_trip}};
  for (const auto& [name, op] : ops)
    expect_same_floats(name, a.size(),
                       [&](const SimdProbe& p, float* y) { (p.*op)(a.data(), y, a.size()); });
  // exp2 is defined up to 127.
  for (float& v : a)
    if (v > 127) v = 127;
  expect_same_floats("exp2", a.size(),
                     [&](const SimdProbe& p, float* y) { p.exp2(a.data(), y, a.size()); });
}

TEST_P(WrapperTest, TwoOperands) {
  const auto e = edges(true);
  std::vector<float> a, b;
  for (const float x : e)
    for (const float y : e) {
      a.push_back(x);
      b.push_back(y);
    }
  const auto ra = any_floats(2, 20000, true), rb = any_floats(3, 20000, true);
  a.insert(a.end(), ra.begin(), ra.end());
  b.insert(b.end(), rb.begin(), rb.end());
  pad16(a);
  pad16(b);
  const std::pair<const char*, Map2> ops[] = {{"add", &SimdProbe::add}, {"sub", &SimdProbe::sub},
                                              {"mul", &SimdProbe::mul}, {"div", &SimdProbe::div},
                                              {"max", &SimdProbe::max}, {"min", &SimdProbe::min}};
  for (const auto& [name, op] : ops)
    expect_same_floats(name, a.size(), [&](const SimdProbe& p, float* y) {
      (p.*op)(a.data(), b.data(), y, a.size());
    });
  std::vector<float> yes(a.size(), 1.0f), no(a.size(), -0.0f);
  expect_same_floats("select_less", a.size(), [&](const SimdProbe& p, float* y) {
    p.select_less(a.data(), b.data(), yes.data(), no.data(), y, a.size());
  });
}

TEST_P(WrapperTest, FmaRoundsOnce) {
  const auto a = any_floats(4, 16000, false), b = any_floats(5, 16000, false);
  std::vector<float> c = any_floats(6, 16000, false), y(a.size()), twice(a.size());
  // Near cancellation, where rounding the product first shows.
  std::vector<float> u(16000), v(16000), w(16000);
  for (int i = 0; i < 16000; ++i) {
    u[i] = static_cast<float>(random_uniform(4, 1, i) + 0.5);
    v[i] = static_cast<float>(random_uniform(4, 2, i) + 0.5);
    w[i] = -u[i] * v[i];
  }
  expect_same_floats("fma", a.size(), [&](const SimdProbe& p, float* out) {
    p.fma(a.data(), b.data(), c.data(), out, a.size());
  });
  expect_same_floats("fma near cancellation", u.size(), [&](const SimdProbe& p, float* out) {
    p.fma(u.data(), v.data(), w.data(), out, u.size());
  });
  probe.fma(u.data(), v.data(), w.data(), y.data(), u.size());
  probe.mul(u.data(), v.data(), twice.data(), u.size());
  probe.add(twice.data(), w.data(), twice.data(), u.size());
  EXPECT_FALSE(same(y, twice));  // the check above can fail
}

TEST_P(WrapperTest, Constants) {
  expect_same_floats("set1 and zero", 32, [](const SimdProbe& p, float* y) { p.constants(y); });
  for (const int32_t x : {0, -1, 77, INT32_MIN})
    expect_same<int32_t>("iset1", 16, [&](const SimdProbe& p, int32_t* y) { p.iset1(x, y); });
  for (const int x : {0, -1, 77, -128})
    expect_same<uint8_t>(
        "bytes1", 64, [&](const SimdProbe& p, uint8_t* y) { p.bytes1(static_cast<int8_t>(x), y); });
}

TEST_P(WrapperTest, ReduceMaxFindsEveryLane) {
  std::vector<float> a(16 * 17, -5.0f), y(17);
  for (int i = 0; i < 16; ++i) a[i * 16 + i] = static_cast<float>(i) - 3;
  std::fill(a.end() - 16, a.end(), -kInf);
  probe.reduce_max(a.data(), y.data(), a.size());
  for (int i = 0; i < 16; ++i) EXPECT_EQ(y[i], static_cast<float>(i) - 3);
  EXPECT_EQ(y[16], -kInf);
}

TEST_P(WrapperTest, EveryHalfLoads) {
  std::vector<uint16_t> h(65536);
  for (int i = 0; i < 65536; ++i) h[i] = static_cast<uint16_t>(i);
  std::vector<float> y(65536), first(65536), second(65536), expected(65536);
  probe.load_f16(h.data(), y.data(), 65536);
  for (int i = 0; i < 65536; ++i) {
    const int exponent = i >> 10 & 31, mantissa = i & 1023;
    double magnitude = exponent == 31 ? (mantissa ? kNan : kInf)
                       : exponent     ? std::ldexp(1024 + mantissa, exponent - 25)
                                      : std::ldexp(mantissa, -24);
    expected[i] = static_cast<float>(i & 0x8000 ? -magnitude : magnitude);
  }
  EXPECT_TRUE(same(y, expected));
  std::vector<uint16_t> pairs(2 * 65536);
  for (int i = 0; i < 65536; ++i) {
    pairs[2 * i] = h[i];
    pairs[2 * i + 1] = h[65535 - i];
  }
  probe.load_f16_pairs(reinterpret_cast<const uint8_t*>(pairs.data()), first.data(), second.data(),
                       65536);
  EXPECT_TRUE(same(first, expected));
  std::reverse(expected.begin(), expected.end());
  EXPECT_TRUE(same(second, expected));

  std::vector<uint16_t> back(65536);
  probe.store_f16(y.data(), back.data(), 65536);
  for (int i = 0; i < 65536; ++i) ASSERT_TRUE(std::isnan(y[i]) || back[i] == i) << i;
}

// Halfway between neighbours the even one wins; a hair off, the nearer one.
TEST_P(WrapperTest, StoringAHalfRoundsToNearestEven) {
  std::vector<float> x;
  std::vector<uint16_t> expected;
  for (int h = 0; h < 0x7c00; ++h) {
    const double low =
        h < 1024 ? std::ldexp(h, -24) : std::ldexp(1024 + (h & 1023), (h >> 10) - 25);
    const int above = h + 1;  // 0x7c00, infinity, stands for 65536 here
    const double high = above < 1024 ? std::ldexp(above, -24)
                                     : std::ldexp(1024 + (above & 1023), (above >> 10) - 25);
    const auto middle = static_cast<float>((low + high) / 2);  // exact: 12 bits
    for (const auto& [value, half] : {std::pair{middle, h % 2 ? above : h},
                                      {std::nextafter(middle, 0.0f), h},
                                      {std::nextafter(middle, kInf), above}}) {
      x.push_back(value);
      expected.push_back(static_cast<uint16_t>(half));
      x.push_back(-value);
      expected.push_back(static_cast<uint16_t>(half | 0x8000));
    }
  }
  for (const auto& [value, half] :
       {std::pair{kInf, 0x7c00}, {1e30f, 0x7c00}, {0x1p-149f, 0}, {-0.0f, 0x8000}}) {
    x.push_back(value);
    expected.push_back(static_cast<uint16_t>(half));
  }
  while (x.size() % 16) {
    x.push_back(1.0f);
    expected.push_back(0x3c00);
  }
  std::vector<uint16_t> y(x.size());
  probe.store_f16(x.data(), y.data(), x.size());
  EXPECT_TRUE(same(y, expected));
  const auto random = any_floats(8, 50000, true);
  expect_same<uint16_t>("random", 50000, [&](const SimdProbe& p, uint16_t* out) {
    p.store_f16(random.data(), out, 50000);
  });
}

TEST_P(WrapperTest, EveryBfloatLoads) {
  std::vector<uint16_t> h(65536);
  std::vector<float> y(65536), expected(65536);
  for (int i = 0; i < 65536; ++i) {
    h[i] = static_cast<uint16_t>(i);
    expected[i] = float_of(static_cast<uint32_t>(i) << 16);
  }
  probe.load_bf16(h.data(), y.data(), 65536);
  EXPECT_TRUE(same(y, expected));
}

TEST_P(WrapperTest, Integers) {
  constexpr int kN = 4096;
  const auto a = any_ints(1, kN);
  auto b = any_ints(2, kN);
  std::rotate(b.begin(), b.begin() + 5, b.end());
  const auto check = [&](const char* name, auto call) { expect_same<int32_t>(name, kN, call); };
  check("iadd", [&](const SimdProbe& p, int32_t* y) { p.iadd(a.data(), b.data(), y, kN); });
  check("isub", [&](const SimdProbe& p, int32_t* y) { p.isub(a.data(), b.data(), y, kN); });
  check("iand", [&](const SimdProbe& p, int32_t* y) { p.iand(a.data(), b.data(), y, kN); });
  check("ior", [&](const SimdProbe& p, int32_t* y) { p.ior(a.data(), b.data(), y, kN); });
  check("shl3", [&](const SimdProbe& p, int32_t* y) { p.shl3(a.data(), y, kN); });
  check("shl23", [&](const SimdProbe& p, int32_t* y) { p.shl23(a.data(), y, kN); });
  check("shr4", [&](const SimdProbe& p, int32_t* y) { p.shr4(a.data(), y, kN); });
  check("sar24", [&](const SimdProbe& p, int32_t* y) { p.sar24(a.data(), y, kN); });
  for (int by = 0; by < 32; ++by)
    check("shr", [&](const SimdProbe& p, int32_t* y) { p.shr_by(a.data(), by, y, kN); });
  expect_same_floats("to_f32", kN,
                     [&](const SimdProbe& p, float* y) { p.to_f32(a.data(), y, kN); });
  expect_same<int8_t>("store_i8", kN,
                      [&](const SimdProbe& p, int8_t* y) { p.store_i8(a.data(), y, kN); });

  std::vector<int32_t> y(kN), sum(kN);
  probe.sar24(a.data(), y.data(), kN);
  for (int i = 0; i < kN; ++i) ASSERT_EQ(y[i], static_cast<int32_t>(std::floor(a[i] / 16777216.0)));
  std::vector<float> f(kN);
  for (int i = 0; i < kN; ++i) f[i] = static_cast<float>(a[i] / 2) / 64;  // with many ties
  check("to_i32", [&](const SimdProbe& p, int32_t* out) { p.to_i32(f.data(), out, kN); });
  probe.to_i32(f.data(), y.data(), kN);
  for (int i = 0; i < kN; ++i)
    ASSERT_EQ(y[i], static_cast<int32_t>(std::nearbyint(static_cast<double>(f[i]))));
}

TEST_P(WrapperTest, Words) {
  constexpr int kN = 4096;
  std::vector<uint16_t> a(kN), b(kN);
  std::vector<int8_t> bytes(kN);
  std::vector<int32_t> acc(kN), small(kN);
  for (int i = 0; i < kN; ++i) {
    a[i] = static_cast<uint16_t>(random_bits(12, 0, i));
    b[i] = static_cast<uint16_t>(random_bits(12, 1, i));
    bytes[i] = static_cast<int8_t>(random_bits(12, 2, i));
    acc[i] = static_cast<int32_t>(random_bits(12, 3, i) & 0xffffff);
    small[i] = static_cast<int16_t>(random_bits(12, 4, i));
  }
  a[0] = b[0] = 0x8000;
  using Word2 = void (*SimdProbe::*)(const uint16_t*, const uint16_t*, uint16_t*, int64_t);
  for (const Word2 op : {&SimdProbe::wadd, &SimdProbe::wmul, &SimdProbe::wand})
    expect_same<uint16_t>("words", kN, [&](const SimdProbe& p, uint16_t* y) {
      (p.*op)(a.data(), b.data(), y, kN);
    });
  expect_same<uint16_t>("wshr", kN,
                        [&](const SimdProbe& p, uint16_t* y) { p.wshr4(a.data(), y, kN); });
  std::vector<int32_t> y(kN);
  probe.widen(a.data(), y.data(), kN);
  for (int i = 0; i < kN; ++i) ASSERT_EQ(y[i], static_cast<int16_t>(a[i]));
  probe.load_i8(bytes.data(), y.data(), kN);
  for (int i = 0; i < kN; ++i) ASSERT_EQ(y[i], bytes[i]);
  for (const int x : {0, 1, -127, 127, -32768}) {
    probe.imul_add(acc.data(), small.data(), x, y.data(), kN);
    for (int i = 0; i < kN; ++i) ASSERT_EQ(y[i], acc[i] + small[i] * x);
  }
  std::vector<uint16_t> product(kN);
  probe.wmul(a.data(), b.data(), product.data(), kN);
  for (int i = 0; i < kN; ++i)
    ASSERT_EQ(product[i], static_cast<uint16_t>(uint32_t{a[i]} * b[i]));
}

TEST_P(WrapperTest, BytesOperations) {
  const auto a = any_bytes(1, 4096), b = any_bytes(2, 4096);
  std::vector<uint8_t> y(4096);
  const auto check = [&](const char* name, auto call, auto expected) {
    call();
    for (int i = 0; i < 4096; ++i) ASSERT_EQ(y[i], expected(i)) << name << " at " << i;
  };
  check(
      "low", [&] { probe.low_nibbles(a.data(), y.data(), 4096); },
      [&](int i) { return a[i] & 15; });
  check(
      "high", [&] { probe.high_nibbles(a.data(), y.data(), 4096); },
      [&](int i) { return a[i] >> 4; });
  check(
      "or", [&] { probe.or_bytes(a.data(), b.data(), y.data(), 4096); },
      [&](int i) { return a[i] | b[i]; });
  for (const int shift : {0, 2, 4, 6})
    check(
        "two bits", [&] { probe.two_bits(shift, a.data(), y.data(), 4096); },
        [&](int i) { return (a[i] >> shift & 3) << 4; });
}

using Dot = void (*SimdProbe::*)(const uint8_t*, const int8_t*, const int32_t*, int32_t*);
using SignedDot = void (*SimdProbe::*)(const uint8_t*, const int8_t*, int32_t, int32_t*);

struct DotInput {
  std::vector<uint8_t> w;
  std::vector<int8_t> x;
};

// Case 0 to 3 are the corners, where sums of 16 bits would saturate.
DotInput dot_input(int round, int words, int w_low, int w_high) {
  DotInput in{std::vector<uint8_t>(words * 64), std::vector<int8_t>(words * 4)};
  for (size_t i = 0; i < in.w.size(); ++i) {
    const int random = w_low + static_cast<int>(random_bits(5, round, i) % (w_high - w_low + 1));
    in.w[i] = static_cast<uint8_t>(round < 4 ? (round & 1 ? w_high : w_low) : random);
  }
  for (size_t i = 0; i < in.x.size(); ++i) {
    const int random = static_cast<int>(random_bits(6, round, i) % 255) - 127;
    in.x[i] = static_cast<int8_t>(round < 4 ? (round & 2 ? 127 : -127) : random);
  }
  return in;
}

TEST_P(WrapperTest, DotOfUnsignedWeightsIsExact) {
  const std::tuple<Dot, int, int> kinds[] = {
      {&SimdProbe::dot_4bit, 8, 15}, {&SimdProbe::dot_6bit, 4, 63}, {&SimdProbe::dot_7bit, 8, 127}};
  for (const auto& [dot, words, w_max] : kinds)
    for (int round = 0; round < 200; ++round) {
      const DotInput in = dot_input(round, words, 0, w_max);
      int32_t init[16], y[16];
      for (int i = 0; i < 16; ++i) init[i] = 1000 * i - 77;
      (probe.*dot)(in.w.data(), in.x.data(), init, y);
      for (int row = 0; row < 16; ++row) {
        int32_t sum = init[row];
        for (int j = 0; j < words * 4; ++j) sum += in.w[(j / 4) * 64 + row * 4 + j % 4] * in.x[j];
        ASSERT_EQ(y[row], sum) << "codes to " << w_max << ", round " << round << ", row " << row;
      }
    }
}

TEST_P(WrapperTest, DotOfSignedWeightsIsExact) {
  const std::pair<SignedDot, int> kinds[] = {{&SimdProbe::dot_signed8, 8},
                                             {&SimdProbe::dot_signed4, 4}};
  for (const auto& [dot, words] : kinds)
    for (int round = 0; round < 200; ++round) {
      const DotInput in = dot_input(round, words, -128, 127);
      int32_t negative_sum = 0, y[16];
      for (const int8_t x : in.x) negative_sum -= x;
      (probe.*dot)(in.w.data(), in.x.data(), negative_sum, y);
      for (int row = 0; row < 16; ++row) {
        int32_t sum = 0;
        for (int j = 0; j < words * 4; ++j)
          sum += static_cast<int8_t>(in.w[(j / 4) * 64 + row * 4 + j % 4]) * in.x[j];
        ASSERT_EQ(y[row], sum) << words << " words, round " << round << ", row " << row;
      }
    }
}

// Which lane takes which product is the set's affair: the sum over all lanes is checked.
TEST_P(WrapperTest, PeakStep) {
  for (int round = 4; round < 50; ++round) {
    const DotInput w = dot_input(round, 1, 0, 63), x = dot_input(round + 100, 1, 0, 255);
    int32_t acc[16], y[16];
    int64_t expected = 0, sum = 0;
    for (int i = 0; i < 16; ++i) expected += acc[i] = 100 * i - 8;
    for (int i = 0; i < 64; ++i) expected += w.w[i] * static_cast<int8_t>(x.w[i]);
    probe.int8_step(acc, w.w.data(), x.w.data(), y);
    for (const int32_t v : y) sum += v;
    ASSERT_EQ(sum, expected) << round;
  }
}

// ---- math.h ------------------------------------------------------------------------------------

std::vector<float> grid(double low, double high, int n) {
  std::vector<float> x(n);
  for (int i = 0; i < n; ++i) x[i] = static_cast<float>(low + (high - low) * i / (n - 1));
  return x;
}

template <typename Reference, typename Bound>
double worst_share(Map1 op, const SimdProbe& p, const std::vector<float>& x, Reference reference,
                   Bound bound) {
  std::vector<float> y(x.size());
  (p.*op)(x.data(), y.data(), x.size());
  double worst = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double exact = reference(static_cast<double>(x[i]));
    worst = std::max(worst,
                     std::fabs(y[i] - exact) / std::fabs(exact) / bound(static_cast<double>(x[i])));
  }
  return worst;
}

constexpr int kGrid = 1 << 17;

TEST_P(WrapperTest, Exp2ErrorIsBelow1e7) {
  const double worst = worst_share(
      &SimdProbe::exp2, probe, grid(-126, 127, kGrid), [](double x) { return std::exp2(x); },
      [](double) { return 1e-7; });
  EXPECT_LT(worst, 1);
  EXPECT_GT(worst, 0.1);  // an error there is: the comparison sees it
}

TEST_P(WrapperTest, Exp2AtItsEnds) {
  std::vector<float> x = {0.0f, -0.0f, 1.0f, 127.0f, -126.0f, -127.5f, -1e30f, -kInf, kNan};
  pad16(x);
  std::vector<float> y(x.size());
  probe.exp2(x.data(), y.data(), x.size());
  EXPECT_EQ(y[0], 1.0f);
  EXPECT_EQ(y[1], 1.0f);
  EXPECT_EQ(y[2], 2.0f);
  EXPECT_EQ(y[3], 0x1p127f);
  EXPECT_EQ(y[4], 0x1p-126f);
  for (int i = 5; i < 8; ++i) EXPECT_EQ(y[i], 0.0f) << x[i];
  EXPECT_TRUE(std::isnan(y[8]));
}

// x log2(e) is rounded twice, the constant and the product: an error of |x| 2^-23 in the exponent,
// times ln 2, on top of exp2's own.
double exp_bound(double x) { return 1e-7 + std::fabs(x) * 1.442695 * 0x1p-23 * M_LN2; }

TEST_P(WrapperTest, ExpError) {
  EXPECT_LT(worst_share(
                &SimdProbe::exp, probe, grid(-87, 88, kGrid), [](double x) { return std::exp(x); },
                exp_bound),
            1);
}

// An error r of e^-x becomes at most r of the sigmoid, and the sum and quotient round once each.
TEST_P(WrapperTest, SigmoidError) {
  EXPECT_LT(worst_share(
                &SimdProbe::sigmoid, probe, grid(-80, 80, kGrid),
                [](double x) { return 1 / (1 + std::exp(-x)); },
                [](double x) { return exp_bound(x) + 0x1p-23; }),
            1);
}

// 1 - 2 / (e^2x + 1) loses at most 1 / tanh(1/4) = 4.1 in relative error to cancellation.
TEST_P(WrapperTest, TanhError) {
  for (const double range : {0.3, 2.0, 20.0})
    EXPECT_LT(
        worst_share(
            &SimdProbe::tanh, probe, grid(-range, range, kGrid),
            [](double x) { return x == 0 ? 1e-30 : std::tanh(x); }, [](double) { return 6e-7; }),
        1)
        << range;
}

TEST_P(WrapperTest, NanStaysNan) {
  std::vector<float> x(16, kNan), y(16);
  for (const Map1 op : {&SimdProbe::exp, &SimdProbe::exp2, &SimdProbe::sigmoid, &SimdProbe::tanh}) {
    (probe.*op)(x.data(), y.data(), 16);
    for (const float v : y) EXPECT_TRUE(std::isnan(v));
  }
}

TEST(Isa, TheBestRunnableOneIsChosen) {
  const auto isas = runnable_isas();
  EXPECT_EQ(isas.front(), Isa::kPortable);
  for (const Isa isa : isas) {
    ASSERT_NE(simd_probe(isa), nullptr);
    EXPECT_EQ(simd_probe(isa)->name, isa_name(isa));
  }
  if (!std::getenv("VENTURI_ISA")) {
    EXPECT_EQ(chosen_isa(), isas.back());
  }
}

}  // namespace
}  // namespace venturi
