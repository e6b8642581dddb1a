#include "base/checked.h"

#include <gtest/gtest.h>

namespace venturi {
namespace {

constexpr uint64_t kMax = UINT64_MAX;

TEST(Checked, AddRefusesToWrap) {
  EXPECT_EQ(checked_add(2, 3), 5u);
  EXPECT_EQ(checked_add(kMax - 1, 1), kMax);
  EXPECT_FALSE(checked_add(kMax, 1));
  EXPECT_FALSE(checked_add(kMax, kMax));
}

TEST(Checked, MulRefusesToWrap) {
  EXPECT_EQ(checked_mul(1ull << 32, (1ull << 32) - 1), ((1ull << 32) - 1) << 32);
  EXPECT_EQ(checked_mul(0, kMax), 0u);
  EXPECT_FALSE(checked_mul(1ull << 32, 1ull << 32));
  EXPECT_FALSE(checked_mul(kMax, 2));
}

TEST(Checked, AlignRefusesToWrap) {
  EXPECT_EQ(checked_align(0, 32), 0u);
  EXPECT_EQ(checked_align(1, 32), 32u);
  EXPECT_EQ(checked_align(32, 32), 32u);
  EXPECT_EQ(checked_align(kMax - 31, 32), kMax - 31);
  EXPECT_FALSE(checked_align(kMax - 30, 32));
  EXPECT_EQ(checked_align(kMax, 1), kMax);
}

TEST(Checked, PowersOfTwo) {
  EXPECT_FALSE(is_power_of_two(0));
  for (int i = 0; i < 64; ++i) EXPECT_TRUE(is_power_of_two(1ull << i));
  for (const uint64_t x : {3ull, 6ull, 12ull, 0xffffffffffffffffull})
    EXPECT_FALSE(is_power_of_two(x));
}

TEST(Checked, OwnSizes) {
  EXPECT_EQ(ceil_div(0, 16), 0);
  EXPECT_EQ(ceil_div(17, 16), 2);
  EXPECT_EQ(round_up(17, 12), 24);
  EXPECT_EQ(round_up(24, 12), 24);
}

}  // namespace
}  // namespace venturi
