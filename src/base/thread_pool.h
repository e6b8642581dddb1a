// A fixed set of threads for short parallel regions, tens of microseconds each.
//
// Workers spin for a moment after a region, since the next one usually follows within microseconds,
// then sleep. The calling thread takes part as worker 0. Threads: run() from one thread at a time;
// no region inside a region.
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
    run_erased([](void* self, int worker) { (*static_cast<Function*>(self))(worker); },
               const_cast<void*>(static_cast<const void*>(&task)));
  }

  // Calls body(begin, end, worker) on disjoint chunks that cover [0, n). Chunks are handed out in
  // order as workers come free, `grain` items each: what a chunk computes may not depend on who runs
  // it; `worker` is for scratch memory.
  template <typename Body>
  void parallel_for(int64_t n, int64_t grain, Body&& body) {
    if (n <= 0) return;
    if (n <= grain || n_threads_ == 1) {
      body(int64_t{0}, n, 0);
      return;
    }
    std::atomic<int64_t> next{0};
    run([&](int worker) {
      for (;;) {
        const int64_t begin = next.fetch_add(grain, std::memory_order_relaxed);
        if (begin >= n) return;
        body(begin, begin + grain < n ? begin + grain : n, worker);
      }
    });
  }

 private:
  void run_erased(void (*function)(void*, int), void* self);
  void worker_loop(int worker);

  const int n_threads_;
  void (*function_)(void*, int) = nullptr;
  void* self_ = nullptr;
  alignas(64) std::atomic<uint32_t> epoch_{0};
  alignas(64) std::atomic<int> pending_{0};
  std::atomic<bool> stop_{false};
  std::atomic<int> sleepers_{0};
  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<std::thread> threads_;
};

// Threads worth using: what the affinity mask and the cgroup CPU quota allow, at least 1.
int default_thread_count();

}  // namespace venturi
