#include "server/allowance.h"

#include <gtest/gtest.h>

namespace venturi::server {
namespace {

constexpr uint64_t kMiB = 1u << 20;
using Kind = Allowance::Kind;

TEST(Allowance, DrawsOnTheLedgerBeyondItsOwnAndGivesBack) {
  const auto ledger = Ledger::create(64 * kMiB);
  const auto allowance = Allowance::create(ledger);
  auto first = allowance->take(8 * kMiB, Kind::kAnswer);
  ASSERT_TRUE(first);
  EXPECT_EQ(ledger->held(), 0u);
  auto second = allowance->take(1, Kind::kAnswer);
  ASSERT_TRUE(second);
  EXPECT_EQ(ledger->held(), kMiB);
  EXPECT_EQ(allowance->held(), 8 * kMiB + 1);
  // A quarter of the budget at most, though three are free.
  EXPECT_FALSE(allowance->take(16 * kMiB, Kind::kAnswer));
  EXPECT_EQ(ledger->held(), kMiB);
  auto third = allowance->take(16 * kMiB - 1, Kind::kAnswer);
  ASSERT_TRUE(third);
  EXPECT_EQ(ledger->held(), 16 * kMiB);
  EXPECT_FALSE(allowance->take(1, Kind::kAnswer));
  first->release();
  EXPECT_EQ(ledger->held(), 8 * kMiB);
  second->add(std::move(*third));
  EXPECT_EQ(second->bytes(), 16 * kMiB);
  second.reset();
  EXPECT_EQ(ledger->held(), 0u);
  EXPECT_EQ(allowance->held(), 0u);
}

TEST(Allowance, LargeBodiesLeaveRoomForOthersAndBodiesForAnswers) {
  const auto ledger = Ledger::create(64 * kMiB);
  const auto all = ledger->acquire(64 * kMiB, "a model").value();
  const auto allowance = Allowance::create(ledger);
  EXPECT_FALSE(allowance->take(4 * kMiB + 1, Kind::kLarge));
  const auto large = allowance->take(4 * kMiB, Kind::kLarge);
  ASSERT_TRUE(large);
  EXPECT_FALSE(allowance->take(1, Kind::kLarge));
  const auto ordinary = allowance->take(2 * kMiB, Kind::kOrdinary);
  ASSERT_TRUE(ordinary);
  EXPECT_FALSE(allowance->take(1, Kind::kOrdinary));
  EXPECT_TRUE(allowance->take(2 * kMiB, Kind::kAnswer));
  EXPECT_EQ(allowance->held(), 6 * kMiB);
}

TEST(Allowance, WhatItSaysIsTheLargestBodyHasRoom) {
  for (const uint64_t limit : {uint64_t{0}, 3 * kMiB, 64 * kMiB, Ledger::kUnlimited}) {
    const auto allowance = Allowance::create(Ledger::create(limit));
    EXPECT_TRUE(allowance->take_body(allowance->largest_body(), allowance->largest_body())) << limit;
    EXPECT_FALSE(allowance->take_body(allowance->largest_body() + 1, allowance->largest_body() + 1)) << limit;
  }
}

TEST(Allowance, TheMostIsWhatModelsLeave) {
  const auto ledger = Ledger::create(64 * kMiB);
  const auto allowance = Allowance::create(ledger);
  EXPECT_EQ(allowance->most(Kind::kAnswer), 24 * kMiB);
  EXPECT_EQ(allowance->most(Kind::kLarge), 20 * kMiB);
  const auto model = ledger->acquire(61 * kMiB + 1, "a model").value();
  EXPECT_EQ(allowance->most(Kind::kAnswer), 10 * kMiB);
  // Whoever holds of it.
  const auto other = allowance->take(9 * kMiB, Kind::kAnswer);
  ASSERT_TRUE(other);
  EXPECT_EQ(allowance->most(Kind::kAnswer), 10 * kMiB);
  EXPECT_EQ(allowance->most(Kind::kOrdinary), 8 * kMiB);
  EXPECT_EQ(allowance->most(Kind::kLarge), 6 * kMiB);
}

}  // namespace
}  // namespace venturi::server
