#include "base/thread_pool.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <chrono>
#include <numeric>

namespace venturi {
namespace {

class ThreadPoolTest : public testing::TestWithParam<int> {};

TEST_P(ThreadPoolTest, EveryWorkerRunsOnce) {
  ThreadPool pool(GetParam());
  std::vector<int> calls(pool.size());
  for (int region = 0; region < 50; ++region) pool.run([&](int worker) { ++calls[worker]; });
  for (const int n : calls) EXPECT_EQ(n, 50);
}

TEST_P(ThreadPoolTest, EveryIndexExactlyOnce) {
  ThreadPool pool(GetParam());
  for (const int64_t n : {0, 1, 2, 7, 64, 1000})
    for (const int64_t grain : {1, 3, 64, 5000}) {
      std::vector<std::atomic<int>> seen(n);
      pool.parallel_for(n, grain, [&](int64_t begin, int64_t end, int worker) {
        ASSERT_LT(begin, end);
        ASSERT_LE(end, n);
        ASSERT_LT(worker, pool.size());
        for (int64_t i = begin; i < end; ++i) ++seen[i];
      });
      for (int64_t i = 0; i < n; ++i) ASSERT_EQ(seen[i], 1) << n << " by " << grain << " at " << i;
    }
}

// What one region writes with plain stores, the next reads: the pool alone orders them.
TEST_P(ThreadPoolTest, RegionsAreOrdered) {
  ThreadPool pool(GetParam());
  std::vector<int64_t> a(257, 0), b(257, 0);
  for (int region = 0; region < 300; ++region) {
    pool.parallel_for(257, 8, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) b[i] = a[256 - i] + 1;
    });
    std::swap(a, b);
  }
  for (const int64_t v : a) EXPECT_EQ(v, 300);
}

// Long pauses send the workers to sleep; each region must wake all of them.
TEST_P(ThreadPoolTest, SleepingWorkersWake) {
  ThreadPool pool(GetParam());
  for (int region = 0; region < 20; ++region) {
    std::this_thread::sleep_for(std::chrono::milliseconds(region % 3));
    std::atomic<int> ran{0};
    pool.run([&](int) { ++ran; });
    EXPECT_EQ(ran, pool.size());
  }
}

// A worker that comes late to a region must not take the end for one more.
TEST_P(ThreadPoolTest, EndsWhileWorkersAreLate) {
  for (int round = 0; round < 3000; ++round) {
    ThreadPool pool(GetParam());
    std::atomic<int64_t> done{0};
    for (int region = 0; region < round % 4; ++region)
      pool.parallel_for(4, 1, [&](int64_t begin, int64_t end, int) { done += end - begin; });
    ASSERT_EQ(done, 4 * (round % 4));
  }
}

INSTANTIATE_TEST_SUITE_P(Threads, ThreadPoolTest, testing::Values(1, 2, 3, 9));

TEST(ThreadPool, StartsAndStopsWithoutWork) {
  for (int i = 0; i < 50; ++i) ThreadPool pool(3);
}

TEST(ThreadPool, AtLeastOneThread) { EXPECT_EQ(ThreadPool(0).size(), 1); }

TEST(ThreadPool, DefaultCountFollowsTheAffinityMask) {
  EXPECT_GE(default_thread_count(), 1);
  int pinned = 0;
  std::thread([&] {
    cpu_set_t now, one;
    ASSERT_EQ(sched_getaffinity(0, sizeof now, &now), 0);
    CPU_ZERO(&one);
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
      if (CPU_ISSET(cpu, &now)) {
        CPU_SET(cpu, &one);
        break;
      }
    ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
    pinned = default_thread_count();
  }).join();
  EXPECT_EQ(pinned, 1);
}

}  // namespace
}  // namespace venturi
