#include "cache/touch_ahead.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <chrono>
#include <cstring>

#include "base/buffer.h"
#include "cache/state.h"

namespace venturi {
namespace {

constexpr uint64_t kMiB = 1 << 20;

bool comes_to(const TouchAhead& toucher, uint64_t bytes) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (toucher.touched_bytes() != bytes && std::chrono::steady_clock::now() < end)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  std::this_thread::sleep_for(std::chrono::milliseconds(20));  // and no further
  return toucher.touched_bytes() == bytes;
}

uint64_t resident(const Buffer& buffer) {
  std::vector<unsigned char> pages(buffer.size() / 4096);
  EXPECT_EQ(mincore(const_cast<uint8_t*>(buffer.data()), buffer.size(), pages.data()), 0);
  uint64_t bytes = 0;
  for (const unsigned char page : pages) bytes += (page & 1) * 4096;
  return bytes;
}

TEST(TouchAhead, KeepsAHugePageAheadAndNoMore) {
  const auto ledger = Ledger::create();
  Buffer memory = Buffer::allocate(*ledger, 64 * kMiB, "test").value();
  Buffer small = Buffer::allocate(*ledger, 40960, "test").value();
  ASSERT_EQ(resident(memory), 0u);
  TouchAhead toucher({{.begin = memory.data(), .bytes = memory.size(), .stride = 300'000, .group = 0},
                      {.begin = small.data(), .bytes = small.size()}}, 1);
  EXPECT_TRUE(comes_to(toucher, 4 * kMiB + 40960));
  EXPECT_EQ(resident(memory), 4 * kMiB);
  EXPECT_EQ(resident(small), 40960u);
  std::memset(memory.data(), 7, 4 * kMiB);
  toucher.used(0, 5);  // 1.8 MB: within the first
  EXPECT_TRUE(comes_to(toucher, 4 * kMiB + 40960));
  toucher.used(0, 7);  // 2.4 MB
  EXPECT_TRUE(comes_to(toucher, 6 * kMiB + 40960));
  toucher.used(0, 3);  // again
  toucher.used(0, 220);
  EXPECT_TRUE(comes_to(toucher, 64 * kMiB + 40960));
  EXPECT_EQ(resident(memory), 64 * kMiB);
  for (uint64_t i = 0; i < 4 * kMiB; i += 4096) ASSERT_EQ(memory.data()[i], 7);
  EXPECT_EQ(memory.data()[5 * kMiB], 0);
}

// Regions that fill alike do not ask alike: one after another while their huge page fills.
TEST(TouchAhead, OneRegionAfterAnother) {
  const auto ledger = Ledger::create();
  std::vector<Buffer> memory;
  std::vector<TouchAhead::Region> regions;
  for (int i = 0; i < 4; ++i) {
    memory.push_back(Buffer::allocate(*ledger, 16 * kMiB, "test").value());
    regions.push_back({.begin = memory.back().data(), .bytes = 16 * kMiB, .stride = 300'000});
  }
  TouchAhead toucher(regions, 1);
  EXPECT_TRUE(comes_to(toucher, 16 * kMiB));
  toucher.used(0, 0);  // 0.3 MB
  EXPECT_TRUE(comes_to(toucher, 16 * kMiB));
  toucher.used(0, 2);  // 0.9 MB
  EXPECT_TRUE(comes_to(toucher, 18 * kMiB));
  toucher.used(0, 4);  // 1.5 MB
  EXPECT_TRUE(comes_to(toucher, 20 * kMiB));
  EXPECT_EQ(resident(memory[0]), 4 * kMiB);
  EXPECT_EQ(resident(memory[3]), 6 * kMiB);
  toucher.used(0, 6);  // 2.1 MB: the next one begins
  EXPECT_TRUE(comes_to(toucher, 24 * kMiB));
}

// A pool that does so hands out the same pages; its thread ends with it.
TEST(TouchAhead, OfAPool) {
  const std::vector<SlotSpec> slots = {SlotSpec::paged(2, 64, 64), SlotSpec::recurrent(100), SlotSpec::paged(1, 64, 64, 64)};
  const auto ledger = Ledger::create();
  const StatePlan plan = plan_state(slots, {.tokens = 4096, .sequences = 8});
  for (const bool ahead : {false, true}) {
    auto pool = StatePool::create(*ledger, slots, plan).value();
    if (ahead) pool->touch_ahead();
    auto state = pool->new_sequence().value();
    for (int64_t at = 0; at < 4000; at += 500) {
      ASSERT_TRUE(state->prepare(at, 500));
      state->set_length(at + 500);
    }
    EXPECT_EQ(state->key_page(0, 3, 0), state->key_page(0, 0, 0) + 3 * state->page_stride(0) / 2);
  }
  EXPECT_EQ(ledger->held(), 0u);
}

}  // namespace
}  // namespace venturi
