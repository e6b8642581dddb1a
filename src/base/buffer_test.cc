#include "base/buffer.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace venturi {
namespace {

TEST(Buffer, IsZeroedAlignedAndLeased) {
  auto ledger = Ledger::create();
  for (const uint64_t bytes : {1ull, 63ull, 4096ull, 5000ull, (2ull << 20) + 1, (8ull << 20) - 1,
                               8ull << 20, (16ull << 20) + 5}) {
    auto buffer = Buffer::allocate(*ledger, bytes, "test");
    ASSERT_TRUE(buffer) << bytes;
    EXPECT_EQ(buffer->size(), bytes);
    const uint64_t alignment = bytes >= (2ull << 20) ? 2ull << 20 : 64;
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer->data()) % alignment, 0u) << bytes;
    EXPECT_TRUE(std::all_of(buffer->data(), buffer->data() + bytes, [](uint8_t b) {
      return b == 0;
    })) << bytes;
    std::fill(buffer->data(), buffer->data() + bytes, 0xff);
    EXPECT_GE(ledger->held(), bytes);
    EXPECT_LT(ledger->held(), bytes + (2 << 20));
  }
  EXPECT_EQ(ledger->held(), 0u);
}

TEST(Buffer, NothingCostsNothing) {
  auto ledger = Ledger::create(0);
  auto buffer = Buffer::allocate(*ledger, 0, "test");
  ASSERT_TRUE(buffer);
  EXPECT_EQ(buffer->size(), 0u);
}

TEST(Buffer, OverBudgetIsRefusedAndHoldsNothing) {
  auto ledger = Ledger::create(1 << 20);
  const auto refused = Buffer::allocate(*ledger, (1 << 20) + 1, "weights");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kOutOfBudget);
  EXPECT_EQ(ledger->held(), 0u);
  EXPECT_TRUE(Buffer::allocate(*ledger, 1 << 20, "weights"));
}

TEST(Buffer, WhatTheSystemCannotMapIsAnErrorAndGivenBack) {
  auto ledger = Ledger::create();
  const auto refused = Buffer::allocate(*ledger, 1ull << 60, "weights");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kIo);
  EXPECT_FALSE(Buffer::allocate(*ledger, UINT64_MAX, "weights"));
  EXPECT_FALSE(Buffer::allocate(*ledger, UINT64_MAX - (2 << 20), "weights"));
  EXPECT_EQ(ledger->held(), 0u);
}

TEST(Buffer, MovesKeepTheBytes) {
  auto ledger = Ledger::create();
  Buffer a = Buffer::allocate(*ledger, 100, "a").value();
  a.data()[7] = 42;
  Buffer b(std::move(a));
  EXPECT_EQ(a.data(), nullptr);
  EXPECT_EQ(a.size(), 0u);
  EXPECT_EQ(b.data()[7], 42);
  Buffer c = Buffer::allocate(*ledger, 9000, "c").value();
  c = std::move(b);
  EXPECT_EQ(c.data()[7], 42);
  EXPECT_EQ(c.size(), 100u);
  EXPECT_EQ(ledger->holdings().size(), 1u);
}

}  // namespace
}  // namespace venturi
