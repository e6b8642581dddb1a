// Products with quantised and float weights through the op itself (`linear`: rounding of x, threads and
// all), for every instruction set of the machine, each beside its bound:
//
//   seconds = max(bytes of weights / B, multiply-adds / peak)     peak: int8 or f32, of that set
//
// Up to 32 rows the weights are larger than the caches, as in decoding; 512 rows are a prompt against a
// matrix of 4096 x 4096. Each repetition measures B and the peak, the work, and both again; `share` is the
// median over the repetitions of bound divided by time, `bytes` and `peak` are the two parts alone.
// VENTURI_ISA, if set, leaves the other sets out; VENTURI_BENCH_THREADS chooses the threads.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "base/clock.h"
#include "bounds.h"
#include "kernels/matmul/layout.h"
#include "ops/linear.h"
#include "simd/isa.h"

namespace venturi {
namespace {

constexpr int64_t kColumns = 4096;
constexpr int64_t kStreamedBytes = 512 << 20, kPromptRows = 512;

// Rows of small values in `codec`, packed; one run of groups, again and again.
class Weights {
 public:
  Weights(const Codec& codec, int64_t n_out)
      : bytes_(value_or_exit(Buffer::allocate(*Machine::get().ledger(), packed_bytes(*codec.layout, kColumns, n_out), "weights"))) {
    const PackedLayout& layout = *codec.layout;
    const int64_t run = interleaved_groups(layout), row_bytes = static_cast<int64_t>(codec.bytes(kColumns));
    std::vector<uint8_t> rows(row_bytes * kGroupRows), packed(run * group_bytes(layout, kColumns));
    std::vector<float> row(kColumns);
    for (int64_t group = 0; group < run; ++group) {
      for (int r = 0; r < kGroupRows; ++r) {
        for (int64_t k = 0; k < kColumns; ++k) row[k] = static_cast<float>((r * 31 + k * 7 + group) % 251 - 125) * 1e-4f;
        codec.encode(row.data(), nullptr, rows.data() + r * row_bytes, kColumns);
      }
      pack_group(layout, rows.data(), row_bytes, kGroupRows, kColumns, group, packed.data());
    }
    for (uint64_t at = 0; at < bytes_.size(); at += packed.size())
      std::memcpy(bytes_.data() + at, packed.data(), std::min<uint64_t>(packed.size(), bytes_.size() - at));
    weight = {.name = std::string(codec.name), .codec = &codec, .n_in = kColumns, .n_out = n_out, .packed = true,
              .row_bytes = codec.bytes(kColumns)};
    weight.plane_bytes = bytes_.size();
    weight.data = bytes_.data();
  }
  Weight weight;

 private:
  Buffer bytes_;
};

double run(Context& context, const Weight& weight, int64_t rows) {
  Act x = context.allocate(rows, kColumns);
  if (context.computes())
    for (int64_t i = 0; i < rows * kColumns; ++i) x.data()[i] = static_cast<float>(i % 251 - 125) * 0.01f;
  const double begin = now_seconds();
  linear(context, weight, x);
  return now_seconds() - begin;
}

void measure(benchmark::State& state, const Codec& codec, int64_t rows) {
  Machine& machine = Machine::get();
  const bool prompt = rows == kPromptRows;
  const int64_t n_out = prompt ? kColumns : kStreamedBytes / static_cast<int64_t>(codec.bytes(kColumns)) / 64 * 64;
  const Weights held(codec, n_out);
  const auto shape = Context::shape(machine.pool().size());
  run(*shape, held.weight, rows);
  const auto context = value_or_exit(Context::run(machine.ledger(), machine.shared_pool(), shape->arena_peak()));
  const OpCost cost = shape->costs().back();
  run(*context, held.weight, rows);
  const auto bytes = static_cast<double>(cost.weight_bytes);
  const auto peak = [&] { return cost.int8_macs ? machine.int8_peak() : machine.f32_peak(); };
  Ratios ratios;
  for (auto _ : state) {
    double macs_a_second = peak(), probe_seconds = machine.read_seconds(cost.weight_bytes);
    double seconds = 0;
    int rounds = 0;
    while (seconds < 0.02) seconds += run(*context, held.weight, rows), ++rounds;
    seconds /= rounds;
    probe_seconds = (probe_seconds + machine.read_seconds(cost.weight_bytes)) / 2;
    macs_a_second = (macs_a_second + peak()) / 2;
    const double mac_seconds = static_cast<double>(cost.int8_macs + cost.f32_macs) / macs_a_second;
    const double bound = prompt ? mac_seconds : std::max(probe_seconds, mac_seconds);
    state.SetIterationTime(seconds);
    ratios.add("share", bound / seconds);
    ratios.add("bytes", probe_seconds / seconds);
    ratios.add("peak", mac_seconds / seconds);
    ratios.add("read_GBs", bytes / probe_seconds * 1e-9);
    ratios.add("peak_Gmacs", macs_a_second * 1e-9);
  }
  ratios.report(state, "share");
}

void add_all() {
  for (const char* name : {"Q4_0", "Q4_K", "Q6_K", "Q8_0", "F16"})
    for (const int64_t rows : {int64_t{1}, int64_t{2}, int64_t{4}, int64_t{8}, int64_t{32}, kPromptRows}) {
      const Codec* codec = find_codec(name);
      const std::string label = "matmul/" + std::string(isa_name(chosen_isa())) + "/" + name + "/rows:" + std::to_string(rows);
      benchmark::RegisterBenchmark(label.c_str(), [=](benchmark::State& state) { measure(state, *codec, rows); })
          ->Iterations(9)
          ->UseManualTime()
          ->Unit(benchmark::kMillisecond);
    }
}

int run_benchmarks(int argc, char** argv) {
  add_all();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}

}  // namespace
}  // namespace venturi

// The set is chosen once in a process: one process for each.
int main(int argc, char** argv) {
  using namespace venturi;
  if (const char* wanted = std::getenv("VENTURI_ISA"); wanted && *wanted) return run_benchmarks(argc, argv);
  for (const Isa isa : runnable_isas()) {
    if (isa == Isa::kPortable) continue;
    const pid_t child = fork();
    if (child == 0) {
      setenv("VENTURI_ISA", std::string(isa_name(isa)).c_str(), 1);
      std::exit(run_benchmarks(argc, argv));
    }
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) < 0 || status != 0) return 1;
  }
}
