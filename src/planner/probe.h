// What this machine can do, measured: the bounds that speeds are shares of.
//
// Memory: bytes per second that all threads together read from memory far larger than the caches,
// on huge pages. int8 peak: multiply-adds per second of 12 independent chains of
// u8 x s8 -> i16 -> i32 -> add, the widest the chosen instruction set has; kernels that add several
// products in 16 bits, or use a dot-product instruction, can pass it. f32 peak: 12 independent
// chains of fused multiply-adds.
#pragma once

#include <cstdint>
#include <span>

#include <vector>

#include "base/buffer.h"
#include "base/thread_pool.h"

namespace venturi {

// One pass over `memory`, all threads, bytes per second.
double read_bandwidth(ThreadPool& pool, std::span<const uint8_t> memory);
double int8_peak(ThreadPool& pool, double seconds = 0.02);  // multiply-adds per second
double f32_peak(ThreadPool& pool, double seconds = 0.02);

struct Spread {
  double median = 0, low = 0, high = 0;  // of the repetitions
};
struct MachineProfile {
  int threads = 0;
  Spread read_bytes_per_second, int8_macs_per_second, f32_macs_per_second;
};
// Draws 256 MB for the measurement; several repetitions.
Result<MachineProfile> probe_machine(Ledger& ledger, ThreadPool& pool, int repetitions = 7);

Spread spread_of(std::vector<double> values);

}  // namespace venturi
