// For the kernel tests: the same inputs on every machine, and comparison by bits.
#pragma once

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <string>
#include <vector>

#include "base/random.h"
#include "simd/isa.h"

namespace venturi::kernel_testing {

inline float uniform(uint64_t stream, uint64_t i) {
  return static_cast<float>(2 * random_uniform(99, stream, i) - 1);
}

inline std::vector<float> floats(uint64_t stream, int64_t n, float scale = 1) {
  std::vector<float> v(n);
  for (int64_t i = 0; i < n; ++i) v[i] = scale * uniform(stream, i);
  return v;
}

inline double f16_value(uint16_t h) {
  const int exponent = h >> 10 & 31, mantissa = h & 1023;
  const double magnitude =
      exponent ? std::ldexp(1024 + mantissa, exponent - 25) : std::ldexp(mantissa, -24);
  return h & 0x8000 ? -magnitude : magnitude;
}

// The same bits, or NaN on both sides.
inline testing::AssertionResult same_bits(const float* a, const float* b, int64_t n) {
  for (int64_t i = 0; i < n; ++i)
    if (std::bit_cast<uint32_t>(a[i]) != std::bit_cast<uint32_t>(b[i]) &&
        !(std::isnan(a[i]) && std::isnan(b[i])))
      return testing::AssertionFailure() << "at " << i << ": " << a[i] << " and " << b[i];
  return testing::AssertionSuccess();
}
inline testing::AssertionResult same_bits(const std::vector<float>& a,
                                          const std::vector<float>& b) {
  if (a.size() != b.size())
    return testing::AssertionFailure() << a.size() << " and " << b.size() << " values";
  return same_bits(a.data(), b.data(), static_cast<int64_t>(a.size()));
}

class IsaTest : public testing::TestWithParam<Isa> {};
inline std::string isa_label(const testing::TestParamInfo<Isa>& info) {
  return std::string(isa_name(info.param));
}

}  // namespace venturi::kernel_testing
