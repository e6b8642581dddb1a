#include "server/workers.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <vector>

namespace venturi::server {
namespace {

TEST(Workers, SmallJobsDoNotWaitForLargeOnes) {
  Workers workers;
  std::promise<void> go_on, begun, done;
  auto may_end = go_on.get_future().share();
  ASSERT_TRUE(workers.add(1 << 20, [&] {
    begun.set_value();
    may_end.wait();
  }));
  begun.get_future().wait();
  std::atomic<int> n = 0;
  for (int i = 0; i < 100; ++i)
    ASSERT_TRUE(workers.add(100, [&] {
      if (++n == 100) done.set_value();
    }));
  EXPECT_EQ(done.get_future().wait_for(std::chrono::seconds(60)), std::future_status::ready);
  EXPECT_FALSE(workers.idle());
  go_on.set_value();
  while (!workers.idle()) std::this_thread::yield();
}

TEST(Workers, LargeOnesComeInTheirOrderAndBeforeSmallOnes) {
  Workers workers;
  std::promise<void> go_on;
  auto may_begin = go_on.get_future().share();
  std::atomic<int> waiting = 0;
  for (const uint64_t bytes : {uint64_t{1} << 20, uint64_t{1}})
    ASSERT_TRUE(workers.add(bytes, [&] {
      ++waiting;
      may_begin.wait();
    }));
  while (waiting < 2) std::this_thread::yield();
  std::vector<int> order;  // of one thread's jobs
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(workers.add(1 << 20, [&order, i] { order.push_back(i); }));
  go_on.set_value();
  while (!workers.idle()) std::this_thread::yield();
  ASSERT_EQ(order.size(), 20u);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(order[static_cast<size_t>(i)], i);
}

TEST(Workers, TooManyAreRefusedAndTheRestIsDroppedAtTheEnd) {
  std::promise<void> go_on;
  auto may_end = go_on.get_future().share();
  std::atomic<int> waiting = 0;
  const auto held = std::make_shared<int>(0);
  {
    Workers workers;
    for (const uint64_t bytes : {uint64_t{1} << 20, uint64_t{1}})
      ASSERT_TRUE(workers.add(bytes, [&] {
        ++waiting;
        may_end.wait();
      }));
    while (waiting < 2) std::this_thread::yield();
    for (size_t i = 0; i < Workers::kMostWaiting; ++i) ASSERT_TRUE(workers.add(i, [held] {}));
    EXPECT_FALSE(workers.add(1, [held] {}));
    EXPECT_GT(held.use_count(), 1000);
    go_on.set_value();
  }
  EXPECT_EQ(held.use_count(), 1);
}

}  // namespace
}  // namespace venturi::server
