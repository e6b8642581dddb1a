#include "planner/probe.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <ctime>

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

Result<MachineProfile> probe_machine(Ledger& ledger, ThreadPool& pool, const ProbeOptions& options) {
  const int64_t megabytes = std::max<int64_t>(1, static_cast<int64_t>(options.memory_bytes >> 20));
  Buffer memory = TRY(Buffer::allocate(ledger, static_cast<uint64_t>(megabytes) << 20, "probe"));
  pool.parallel_for(megabytes, 1, [&](int64_t begin, int64_t end, int) {
    std::memset(memory.data() + (begin << 20), 1, static_cast<size_t>(end - begin) << 20);
  });
  const std::span<const uint8_t> all{memory.data(), memory.size()};
  std::vector<double> read, int8, f32;
  for (int i = 0; i < options.repetitions; ++i) {
    read.push_back(read_bandwidth(pool, all));
    int8.push_back(int8_peak(pool));
    f32.push_back(f32_peak(pool));
  }
  MachineProfile profile{.taken = static_cast<int64_t>(std::time(nullptr)),
                         .threads = pool.size(),
                         .instruction_set = std::string(isa_name(chosen_isa())),
                         .read_bytes_per_second = spread_of(read),
                         .int8_macs_per_second = spread_of(int8),
                         .f32_macs_per_second = spread_of(f32)};
  for (int threads = 1; options.by_threads && threads < pool.size(); threads *= 2) {
    ThreadPool fewer(threads);
    std::vector<double> rates;
    for (int i = 0; i < options.repetitions; ++i) rates.push_back(read_bandwidth(fewer, all));
    profile.memory.push_back({threads, spread_of(rates)});
  }
  profile.memory.push_back({pool.size(), profile.read_bytes_per_second});
  return profile;
}

}  // namespace venturi
