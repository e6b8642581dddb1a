#include "base/ledger.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

namespace venturi {
namespace {

using testing::AllOf;
using testing::HasSubstr;

TEST(Ledger, GrantsUpToTheLimitExactly) {
  auto ledger = Ledger::create(100);
  auto a = ledger->acquire(60, "a");
  auto b = ledger->acquire(40, "b");
  ASSERT_TRUE(a && b);
  EXPECT_EQ(ledger->available(), 0u);
  EXPECT_FALSE(ledger->acquire(1, "c"));
  b->release();
  EXPECT_TRUE(ledger->acquire(40, "c"));
  EXPECT_FALSE(ledger->acquire(UINT64_MAX, "wraps"));
  EXPECT_EQ(ledger->held(), 60u);
  EXPECT_EQ(ledger->peak(), 100u);
}

TEST(Ledger, RefusalNamesWhoAsksAndWhoHolds) {
  auto ledger = Ledger::create(2'000'000);
  auto small = ledger->acquire(200'000, "KV cache"), large = ledger->acquire(1'500'000, "weights");
  const auto refused = ledger->acquire(400'000, "activations");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kOutOfBudget);
  EXPECT_THAT(
      refused.error().message,
      AllOf(HasSubstr("2.0 MB"), HasSubstr("activations asks for 400.0 kB"),
            HasSubstr("300.0 kB are left"), HasSubstr("weights 1.5 MB, KV cache 200.0 kB")));
}

TEST(Ledger, HoldingsOfOneNameAddUp) {
  auto ledger = Ledger::create();
  auto a = ledger->acquire(5, "x"), b = ledger->acquire(7, "y"), c = ledger->acquire(4, "x");
  const auto rows = ledger->holdings();
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].holder, "x");
  EXPECT_EQ(rows[0].bytes, 9u);
  EXPECT_EQ(rows[1].bytes, 7u);
  a->release();
  a->release();  // twice is once
  EXPECT_EQ(ledger->held(), 11u);
}

TEST(Ledger, LeasesOfNothing) {
  auto ledger = Ledger::create(10);
  auto a = ledger->acquire(0, "x"), b = ledger->acquire(0, "x"), c = ledger->acquire(10, "x");
  ASSERT_TRUE(a && b && c);
  a->release();
  c->release();  // the last byte of x; b still stands
  EXPECT_TRUE(ledger->holdings().empty());
  b->release();
  EXPECT_EQ(ledger->held(), 0u);
}

TEST(Ledger, MovedLeaseIsHeldOnce) {
  auto ledger = Ledger::create(100);
  Lease target = ledger->acquire(30, "old").value();
  {
    Lease source = ledger->acquire(50, "new").value();
    target = std::move(source);  // gives 30 back
    EXPECT_EQ(ledger->held(), 50u);
    EXPECT_EQ(source.bytes(), 0u);
  }
  EXPECT_EQ(ledger->held(), 50u);
  Lease third(std::move(target));
  EXPECT_EQ(third.bytes(), 50u);
  Lease& self = third;
  third = std::move(self);
  EXPECT_EQ(ledger->held(), 50u);
  third.release();
  EXPECT_EQ(ledger->held(), 0u);
}

TEST(Ledger, LeaseKeepsItsLedgerAlive) {
  Lease lease;
  std::weak_ptr<Ledger> alive;
  {
    auto ledger = Ledger::create(10);
    alive = ledger;
    lease = ledger->acquire(10, "x").value();
  }
  EXPECT_FALSE(alive.expired());
  lease.release();
  EXPECT_TRUE(alive.expired());
}

TEST(Ledger, ConcurrentLeasesNeverPassTheLimit) {
  auto ledger = Ledger::create(1000);
  std::atomic<int> granted{0}, refused{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 3000; ++i) {
        auto first = ledger->acquire(100 + 37 * (i % 5), "holder " + std::to_string(t % 2));
        auto second = ledger->acquire(200, "shared");
        (first ? granted : refused)++;
        (second ? granted : refused)++;
        EXPECT_LE(ledger->held(), 1000u);
      }
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(ledger->held(), 0u);
  EXPECT_LE(ledger->peak(), 1000u);
  EXPECT_GT(granted, 0);
  EXPECT_EQ(granted + refused, 4 * 3000 * 2);
  EXPECT_TRUE(ledger->holdings().empty());
}

TEST(Bytes, Parse) {
  const std::pair<const char*, uint64_t> good[] = {{"123456", 123456},
                                                   {"800k", 800'000},
                                                   {"1500M", 1'500'000'000},
                                                   {"2G", 2'000'000'000},
                                                   {"1.5G", 1'500'000'000},
                                                   {"2GiB", 2ull << 30},
                                                   {"2gib", 2ull << 30},
                                                   {"1KiB", 1024},
                                                   {"3MB", 3'000'000},
                                                   {"1T", 1'000'000'000'000},
                                                   {"64b", 64},
                                                   {".5k", 500}};
  for (const auto& [text, bytes] : good) {
    const auto parsed = parse_bytes(text);
    ASSERT_TRUE(parsed) << text;
    EXPECT_EQ(*parsed, bytes) << text;
  }
  for (const char* text : {"", "G", "-1G", "+1G", "1X", "1GiBs", "2Gi", "0x10", "nan", "inf",
                           "1e400", "0", "0.3", "1 G", " 1G", "1.2.3", ".", "99999999T", "1GB ", "1.5", "2.5b"})
    EXPECT_FALSE(parse_bytes(text)) << text;
  EXPECT_NE(parse_bytes("1.5").error().message.find("1.5G?"), std::string::npos);
}

TEST(Bytes, Format) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(999), "999 B");
  EXPECT_EQ(format_bytes(12'000), "12.0 kB");
  EXPECT_EQ(format_bytes(382'000'000), "382.0 MB");
  EXPECT_EQ(format_bytes(1'500'000'000), "1.50 GB");
  EXPECT_EQ(format_bytes(Ledger::kUnlimited), "unlimited");
}

}  // namespace
}  // namespace venturi
