// What this machine can do, measured: the bounds that speeds are shares of, and the rates that
// predictions use.
//
// Memory: bytes per second that threads together read from memory far larger than the caches, on huge
// pages. int8 peak: multiply-adds per second of 12 independent chains of u8 x s8 -> i16 -> i32 -> add,
// the widest the chosen instruction set has; kernels that add several products in 16 bits, or use a
// dot-product instruction, can pass it. f32 peak: 12 independent chains of fused multiply-adds. Kernels:
// the matmul op itself, since it reaches a share of those bounds that depends on the format. Disk:
// disk_probe.h.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/buffer.h"
#include "base/thread_pool.h"
#include "codecs/codec.h"
#include "planner/profile.h"

namespace venturi {

// One pass over `memory`, all threads, bytes per second.
double read_bandwidth(ThreadPool& pool, std::span<const uint8_t> memory);
double int8_peak(ThreadPool& pool, double seconds = 0.02);  // multiply-adds per second
double f32_peak(ThreadPool& pool, double seconds = 0.02);

// Memory and peaks of a pool of threads; with `by_threads` also what fewer threads read. Draws
// `memory_bytes`.
struct ProbeOptions {
  int repetitions = 7;
  uint64_t memory_bytes = 256u << 20;
  bool by_threads = true;
};
Result<MachineProfile> probe_machine(Ledger& ledger, ThreadPool& pool, const ProbeOptions& options = {});

// A codec and the shape of the matrices that it is measured with.
struct KernelCase {
  const Codec* codec = nullptr;
  int64_t n_in = 4096, n_out = 4096;
};
struct KernelProbeOptions {
  int repetitions = 3;
  double seconds = 0.01;                // of one measurement
  uint64_t memory_bytes = 256u << 20;   // that the matrices fill: as the weights of a model do
  bool packed = true, as_stored = true;  // which forms
  std::vector<int64_t> rows = {1, 4, 16, 64, 256};
};
// Appends to profile.kernels, and sets profile.region_seconds. Draws the memory and some for inputs.
Status probe_kernels(std::shared_ptr<Ledger> ledger, std::shared_ptr<ThreadPool> pool, std::span<const KernelCase> cases,
                     const KernelProbeOptions& options, MachineProfile& profile);

}  // namespace venturi
