#include "base/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace venturi {

namespace {

inline void cpu_relax() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// About 50 µs of spinning on current machines: longer than the gap between two regions of a step,
// far shorter than the gap between two requests.
constexpr int kSpins = 4000;

// With more threads than CPUs a spinning one keeps the CPU from the one that it waits for.
int spins(int n_threads) {
  static const int cpus = default_thread_count();
  return n_threads > cpus ? 0 : kSpins;
}

double read_number(const char* path) {
  double value = -1;
  if (FILE* f = std::fopen(path, "r")) {
    if (std::fscanf(f, "%lf", &value) != 1) value = -1;
    std::fclose(f);
  }
  return value;
}

// CPUs granted by the cgroup quota (v2, then v1), or a negative number.
double cgroup_cpus() {
  if (FILE* f = std::fopen("/sys/fs/cgroup/cpu.max", "r")) {
    double quota = -1, period = 1;
    const int n = std::fscanf(f, "%lf %lf", &quota, &period);
    std::fclose(f);
    if (n == 2 && quota > 0 && period > 0) return quota / period;
    return -1;
  }
  const double quota = read_number("/sys/fs/cgroup/cpu/cpu.cfs_quota_us");
  const double period = read_number("/sys/fs/cgroup/cpu/cpu.cfs_period_us");
  return quota > 0 && period > 0 ? quota / period : -1;
}

}  // namespace

ThreadPool::ThreadPool(int n_threads) : n_threads_(std::max(1, n_threads)), shares_(static_cast<size_t>(n_threads_)) {
  for (int worker = 1; worker < n_threads_; ++worker)
    threads_.emplace_back([this, worker] { worker_loop(worker); });
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard lock(mutex_);
    stop_.store(true);
    epoch_.fetch_add(1);
  }
  wake_.notify_all();
  for (auto& thread : threads_) thread.join();
}

void ThreadPool::run_erased(void (*function)(void*, int), void* self, Join join) {
  if (n_threads_ == 1) return function(self, 0);
  function_ = function;
  self_ = self;
  done_.store(0, std::memory_order_relaxed);
  const uint32_t epoch = epoch_.load(std::memory_order_relaxed) + 1;
  door_.store(uint64_t{epoch} << 32 | kOpen, std::memory_order_release);
  epoch_.store(epoch, std::memory_order_seq_cst);
  if (sleepers_.load(std::memory_order_seq_cst) > 0) {
    std::lock_guard lock(mutex_);
    wake_.notify_all();
  }
  function(self, 0);
  const int joined = join == Join::kAll
                         ? n_threads_ - 1
                         : static_cast<int>(door_.fetch_and(~kOpen, std::memory_order_acq_rel) & kEntered);
  wait_until_done(joined);
}

// Sleeps at last, rather than yields: one that yields beside another program waits for the other's
// whole slice, one that is woken gets its CPU back.
void ThreadPool::wait_until_done(int joined) {
  const int most = spins(n_threads_);
  for (int spin = 0; spin <= most; ++spin) {
    if (done_.load(std::memory_order_acquire) == joined) return;
    cpu_relax();
  }
  std::unique_lock lock(mutex_);
  caller_sleeps_.store(true, std::memory_order_seq_cst);
  finished_.wait(lock, [&] { return done_.load(std::memory_order_seq_cst) == joined; });
  caller_sleeps_.store(false, std::memory_order_relaxed);
}

// Whether the region of this epoch was still open; it then waits for this worker.
bool ThreadPool::enter(uint32_t epoch) {
  uint64_t door = door_.load(std::memory_order_acquire);
  while (door >> 32 == epoch && (door & kOpen) != 0)
    if (door_.compare_exchange_weak(door, door + 1, std::memory_order_acq_rel)) return true;
  return false;
}

void ThreadPool::worker_loop(int worker) {
  uint32_t seen = 0;
  const int most = spins(n_threads_);
  for (;;) {
    int spin = 0;
    while (epoch_.load(std::memory_order_acquire) == seen && spin < most) {
      cpu_relax();
      ++spin;
    }
    if (epoch_.load(std::memory_order_acquire) == seen) {
      std::unique_lock lock(mutex_);
      sleepers_.fetch_add(1, std::memory_order_seq_cst);
      wake_.wait(lock, [&] { return epoch_.load(std::memory_order_seq_cst) != seen; });
      sleepers_.fetch_sub(1, std::memory_order_relaxed);
    }
    // In this order: who sees the last epoch sees that there will be no other.
    seen = epoch_.load(std::memory_order_acquire);
    if (stop_.load(std::memory_order_relaxed)) return;
    if (!enter(seen)) continue;
    function_(self_, worker);
    done_.fetch_add(1, std::memory_order_seq_cst);
    if (caller_sleeps_.load(std::memory_order_seq_cst)) {
      std::lock_guard lock(mutex_);
      finished_.notify_one();
    }
  }
}

int default_thread_count() {
  cpu_set_t set;
  int n = static_cast<int>(std::thread::hardware_concurrency());
  if (sched_getaffinity(0, sizeof set, &set) == 0) n = CPU_COUNT(&set);
  if (const double quota = cgroup_cpus(); quota > 0) n = std::min(n, static_cast<int>(std::ceil(quota)));
  return std::max(1, n);
}

}  // namespace venturi
