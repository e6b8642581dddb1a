#include "planner/probe.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "base/clock.h"
#include "kernels/peak/peak.h"

namespace venturi {

namespace {

std::atomic<float> g_sink;

double rate(ThreadPool& pool, double seconds, int64_t (*kernel)(int64_t, float*)) {
  float sink = 0;
  const double t0 = now_seconds();
  kernel(20000, &sink);
  const double pace = 20000 / std::max(1e-9, now_seconds() - t0);
  const int64_t steps = std::max<int64_t>(1000, static_cast<int64_t>(pace * seconds));
  std::atomic<int64_t> total{0};
  const double begin = now_seconds();
  pool.run([&](int) {
    float local = 0;
    total += kernel(steps, &local);
    g_sink = local;
  });
  return static_cast<double>(total.load()) / (now_seconds() - begin);
}

}  // namespace

double read_bandwidth(ThreadPool& pool, std::span<const uint8_t> memory) {
  constexpr int64_t kChunk = 1 << 20;
  const int64_t chunks = static_cast<int64_t>(memory.size()) / kChunk;
  const double begin = now_seconds();
  // One contiguous range a thread, as the kernels walk a matrix.
  pool.run([&](int worker) {
    const int64_t first = chunks * worker / pool.size(), last = chunks * (worker + 1) / pool.size();
    float sink = 0;
    peak_kernels().read(memory.data() + first * kChunk, (last - first) * kChunk, &sink);
    g_sink = sink;
  });
  return static_cast<double>(chunks * kChunk) / (now_seconds() - begin);
}

double int8_peak(ThreadPool& pool, double seconds) { return rate(pool, seconds, peak_kernels().int8); }
double f32_peak(ThreadPool& pool, double seconds) { return rate(pool, seconds, peak_kernels().f32); }

Spread spread_of(std::vector<double> values) {
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  const size_t n = values.size();
  return {.median = n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2,
          .low = values.front(), .high = values.back()};
}

Result<MachineProfile> probe_machine(Ledger& ledger, ThreadPool& pool, int repetitions) {
  Buffer memory = TRY(Buffer::allocate(ledger, 256u << 20, "probe"));
  pool.parallel_for(256, 1, [&](int64_t begin, int64_t end, int) {
    std::memset(memory.data() + (begin << 20), 1, static_cast<size_t>(end - begin) << 20);
  });
  std::vector<double> read, int8, f32;
  for (int i = 0; i < repetitions; ++i) {
    read.push_back(read_bandwidth(pool, {memory.data(), memory.size()}));
    int8.push_back(int8_peak(pool));
    f32.push_back(f32_peak(pool));
  }
  return MachineProfile{pool.size(), spread_of(read), spread_of(int8), spread_of(f32)};
}

}  // namespace venturi
