// Softmax of one row in place: three passes over it (maximum; exponentials and their sum; scale) against
// two (mantissa and exponent kept apart, no maximum first), alternating in every repetition, from a row in
// the L1 cache to one far larger than all caches. `two_over_three` is the median of the ratio of the
// speeds: above 1 two passes win. Share: bytes that the method must move, reads and writes, over its time
// and the bandwidth of reading memory with one thread; above 1 the row comes from a cache.
// VENTURI_ISA chooses the instruction set.
#include <algorithm>
#include <vector>

#include "base/clock.h"
#include "bounds.h"
#include "kernels/rows/rows.h"
#include "planner/probe.h"

namespace venturi {
namespace {

constexpr int64_t kElementsTimed = 1 << 22;  // of short rows, at a time

double seconds_per_element(void (*softmax)(float*, int64_t), float* x, int64_t n) {
  const int64_t rounds = std::max<int64_t>(1, kElementsTimed / n);
  const double begin = now_seconds();
  for (int64_t i = 0; i < rounds; ++i) softmax(x, n);
  return (now_seconds() - begin) / static_cast<double>(rounds * n);
}

void measure(benchmark::State& state, int64_t n) {
  Machine& machine = Machine::get();
  Buffer row = value_or_exit(Buffer::allocate(*machine.ledger(), static_cast<uint64_t>(n) * sizeof(float), "row"));
  Buffer probe = value_or_exit(Buffer::allocate(*machine.ledger(), 512u << 20, "probe"));
  ThreadPool alone(1);
  float* x = row.as<float>();
  for (int64_t i = 0; i < n; ++i) x[i] = static_cast<float>(i * 7919 % 2003 - 1001) * 0.01f;
  std::fill_n(probe.as<float>(), probe.size() / sizeof(float), 1.0f);
  const RowKernels& rows = row_kernels();
  Ratios ratios;
  for (auto _ : state) {
    const double read = read_bandwidth(alone, {probe.data(), probe.size()});
    const double three = seconds_per_element(rows.softmax_three_pass, x, n);
    const double two = seconds_per_element(rows.softmax_two_pass, x, n);
    state.SetIterationTime(two * static_cast<double>(n));
    ratios.add("two_over_three", three / two);
    ratios.add("three_share", 5 * sizeof(float) / three / read);
    ratios.add("two_share", 3 * sizeof(float) / two / read);
    ratios.add("three_ns", three * 1e9);
    ratios.add("two_ns", two * 1e9);
  }
  ratios.report(state, "two_over_three");
}

}  // namespace
}  // namespace venturi

int main(int argc, char** argv) {
  using namespace venturi;
  // 4 kB to 512 MB.
  for (int64_t n = 1 << 10; n <= 1 << 27; n *= n < 1 << 14 || n >= 1 << 21 ? 4 : 2)
    benchmark::RegisterBenchmark(("softmax/" + std::string(isa_name(chosen_isa())) + "/kB:" + std::to_string(n / 256)).c_str(),
                                 [n](benchmark::State& state) { measure(state, n); })
        ->Iterations(9)
        ->UseManualTime()
        ->Unit(benchmark::kMillisecond);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
}
