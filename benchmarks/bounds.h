// What a benchmark is measured beside, taken in the same run and from the same threads: each
// repetition is bounds, work, bounds, and what is reported are medians of ratios within repetitions.
#pragma once

#include <benchmark/benchmark.h>

#include <memory>
#include <string>
#include <vector>

#include "base/buffer.h"
#include "base/thread_pool.h"
#include "codecs/codec.h"
#include "ops/context.h"

namespace venturi {

// One pool, one ledger and the memory that the read bandwidth is measured on, for the whole program.
class Machine {
 public:
  static Machine& get();

  ThreadPool& pool() { return *pool_; }
  const std::shared_ptr<ThreadPool>& shared_pool() { return pool_; }
  const std::shared_ptr<Ledger>& ledger() { return ledger_; }

  // Seconds to read about `bytes` of memory that has not been read for 256 MB, on huge pages.
  double read_seconds(uint64_t bytes);
  double f32_peak();   // multiply-adds a second
  double int8_peak();  // likewise, as the probe defines it
  // Multiply-adds a second of `linear` with K = k: the better of F32 and F16 weights, 512 rows against
  // 2048, the product left in cache.
  double matmul_rate(int64_t k);

  // With VENTURI_BENCH_THREADS set, that many threads; else what the program itself would take.
  static int threads();

 private:
  struct Product;
  Machine();

  std::shared_ptr<Ledger> ledger_;
  std::shared_ptr<ThreadPool> pool_;
  Buffer memory_;
  uint64_t read_at_ = 0;
  std::unique_ptr<Context> context_;
};

// Medians over the repetitions of a benchmark, as counters.
class Ratios {
 public:
  void add(const std::string& name, double value);
  // Each name as its median; with `spread`, the lowest and highest too.
  void report(benchmark::State& state, const std::string& spread) const;

 private:
  std::vector<std::pair<std::string, std::vector<double>>> values_;
};

// Stops the benchmark with a message where a Result holds an error.
template <typename T>
T value_or_exit(Result<T> result) {
  if (result) return std::move(result).value();
  std::fprintf(stderr, "benchmark: %s\n", result.error().message.c_str());
  std::exit(1);
}

}  // namespace venturi
