#include "base/random.h"

#include <gtest/gtest.h>

#include <set>

namespace venturi {
namespace {

// Known answers for philox4x32-10 as published with the Random123 library (kat_vectors).
TEST(Random, PhiloxKnownAnswers) {
  using Words = std::array<uint32_t, 4>;
  EXPECT_EQ(philox({0, 0, 0, 0}, {0, 0}), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  // The digits of pi.
  EXPECT_EQ(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Random, EverySeedStreamAndCounterHasItsOwnBits) {
  std::set<uint64_t> seen;
  for (const uint64_t seed : {0ull, 1ull, 1ull << 32, 1ull << 63})
    for (const uint64_t stream : {0ull, 1ull, 1ull << 32, 1ull << 63})
      for (const uint64_t counter : {0ull, 1ull, 1ull << 32, 1ull << 63}) {
        seen.insert(random_bits(seed, stream, counter));
        EXPECT_EQ(random_bits(seed, stream, counter), random_bits(seed, stream, counter));
      }
  EXPECT_EQ(seen.size(), 64u);
}

// Mean and variance of 1e5 uniforms lie within five standard errors of 1/2 and 1/12.
TEST(Random, UniformIsUniform) {
  constexpr int kN = 100000;
  double sum = 0, squares = 0;
  for (int i = 0; i < kN; ++i) {
    const double u = random_uniform(7, 1, i);
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
    sum += u;
    squares += (u - 0.5) * (u - 0.5);
  }
  EXPECT_NEAR(sum / kN, 0.5, 5 * 0.2887 / 316.2);
  EXPECT_NEAR(squares / kN, 1.0 / 12, 5 * 0.0745 / 316.2);
}

}  // namespace
}  // namespace venturi
