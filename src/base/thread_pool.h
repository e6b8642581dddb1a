// A fixed set of threads for short parallel regions, tens of microseconds each.
//
// Workers spin for a moment after a region, since the next one usually follows within microseconds,
// then sleep. The calling thread takes part as worker 0. Where a region's work is in chunks, it waits
// only for workers that have begun: one that the system has put aside for another program (for
// milliseconds, a hundred regions) misses the region, and the others do its share. Threads: run()
// from one thread at a time; no region inside a region.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace venturi {

class ThreadPool {
 public:
  explicit ThreadPool(int n_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return n_threads_; }

  // Calls task(worker) for worker 0 … size()-1, at once, and returns when all are done.
  template <typename Task>
  void run(Task&& task) {
    using Function = std::remove_reference_t<Task>;
    run_erased(erased<Function>, const_cast<void*>(static_cast<const void*>(&task)), Join::kAll);
  }

  // Calls body(begin, end, worker) on disjoint chunks of `grain` items that cover [0, n). Each worker
  // walks a contiguous share from its front, so that what streams memory goes on where it left off;
  // one that is done takes chunks off the back of another's share. What a chunk computes may not
  // depend on who runs it; `worker` is for scratch memory.
  template <typename Body>
  void parallel_for(int64_t n, int64_t grain, Body&& body) {
    if (n <= 0) return;
    if (n <= grain || n_threads_ == 1) {
      body(int64_t{0}, n, 0);
      return;
    }
    const int64_t chunks = (n + grain - 1) / grain;
    for (int w = 0; w < n_threads_; ++w)
      shares_[w].chunks.store(pack(chunks * w / n_threads_, chunks * (w + 1) / n_threads_), std::memory_order_relaxed);
    auto walk = [&](int worker) {
      for (int i = 0; i < n_threads_; ++i) {
        Share& share = shares_[(worker + i) % n_threads_];
        int64_t chunk;
        while (share.take(i == 0, chunk)) {
          const int64_t begin = chunk * grain;
          body(begin, begin + grain < n ? begin + grain : n, worker);
        }
      }
    };
    run_erased(erased<decltype(walk)>, &walk, Join::kWhoComes);
  }

 private:
  // The chunks of one worker that nobody has taken: first and past-the-last in one word.
  static uint64_t pack(int64_t begin, int64_t end) {
    return static_cast<uint64_t>(begin) << 32 | static_cast<uint64_t>(end);
  }
  struct alignas(64) Share {
    std::atomic<uint64_t> chunks{0};
    bool take(bool front, int64_t& chunk) {
      uint64_t now = chunks.load(std::memory_order_relaxed);
      for (;;) {
        const int64_t begin = static_cast<int64_t>(now >> 32), end = static_cast<int64_t>(now & 0xffffffff);
        if (begin >= end) return false;
        chunk = front ? begin : end - 1;
        const uint64_t left = front ? pack(begin + 1, end) : pack(begin, end - 1);
        if (chunks.compare_exchange_weak(now, left, std::memory_order_relaxed)) return true;
      }
    }
  };

  template <typename Function>
  static void erased(void* self, int worker) {
    (*static_cast<Function*>(self))(worker);
  }

  // Whom a region waits for: every worker, or those that have begun by the time the caller is done.
  enum class Join { kAll, kWhoComes };
  void run_erased(void (*function)(void*, int), void* self, Join join);
  void wait_until_done(int joined);
  bool enter(uint32_t epoch);
  void worker_loop(int worker);

  // The door of a region: its epoch, whether it is open, and how many have entered, in one word, so
  // that none enters a region that its caller has left.
  static constexpr uint64_t kOpen = uint64_t{1} << 31;
  static constexpr uint64_t kEntered = kOpen - 1;

  const int n_threads_;
  void (*function_)(void*, int) = nullptr;
  void* self_ = nullptr;
  alignas(64) std::atomic<uint32_t> epoch_{0};
  alignas(64) std::atomic<uint64_t> door_{0};
  std::atomic<int> done_{0};
  std::atomic<bool> caller_sleeps_{false};
  std::atomic<bool> stop_{false};
  std::atomic<int> sleepers_{0};
  std::mutex mutex_;
  std::condition_variable wake_, finished_;
  std::vector<Share> shares_;
  std::vector<std::thread> threads_;
};

// Threads worth using: what the affinity mask and the cgroup CPU quota allow, at least 1.
int default_thread_count();

}  // namespace venturi
