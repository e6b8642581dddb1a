// One layer of attention through the op itself (`attend`, state, threads and all), beside its bound.
//
//   decode:   one new token in each of several sequences of `keys` tokens, one sequence after another;
//             together their keys and values are larger than the caches.
//             bound = max(bytes of keys and values / B, multiply-adds / f32 peak) seconds
//   prefill:  the last `rows` of `keys` tokens, causally.
//             bound = useful multiply-adds (pairs that the mask lets see each other, times k_dim + v_dim)
//             over our own f32 matmul rate with K = k_dim
//
// Each repetition measures the bound, the work, and the bound again, decode also between its steps; `share` is the median over the
// repetitions of bound divided by time. `peak` is the same work against the f32 peak.
// VENTURI_ISA chooses the instruction set, VENTURI_BENCH_THREADS the threads.
#include <algorithm>
#include <cmath>
#include <random>

#include "base/clock.h"
#include "bounds.h"
#include "cache/state.h"
#include "kernels/attention/attention.h"
#include "ops/attend.h"

namespace venturi {
namespace {

constexpr int kDecodeRepetitions = 21, kPrefillRepetitions = 9;
constexpr int64_t kDecodeBytes = 256 << 20;  // of keys and values a repetition reads

struct Layer {
  int head_dim, n_kv_heads, group;
  bool latent = false;  // one latent KV head: keys of head_dim + 64, values their last head_dim elements

  int k_dim() const { return latent ? head_dim + 64 : head_dim; }
  int n_heads() const { return n_kv_heads * group; }
  SlotSpec slot() const {
    return latent ? SlotSpec::paged_latent(k_dim(), head_dim) : SlotSpec::paged(n_kv_heads, head_dim, head_dim);
  }
  AttendParams params(const Rope& rope) const {
    return {.slot = 0, .n_heads = n_heads(), .n_kv_heads = n_kv_heads, .k_dim = k_dim(), .v_dim = head_dim,
            .scale = 1 / std::sqrt(static_cast<float>(k_dim())), .rope = &rope, .values_in_keys = latent};
  }
};

// f16 of a normal distribution, enough of it not to repeat within a page.
std::vector<uint16_t> random_halves() {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<uint16_t> halves(1 << 16);
  for (uint16_t& h : halves) h = f32_to_f16(normal(random));
  return halves;
}

// A layer's state of `sequences` sequences that hold `keys` tokens each, and what one step over the
// last `rows` of them needs.
class Bench {
 public:
  Bench(const Layer& layer, int64_t keys, int64_t rows, int64_t sequences)
      : layer_(layer), keys_(keys), rows_(rows), rope_{.frequencies = Rope::plain(64, 10000)} {
    Machine& machine = Machine::get();
    pool_ = value_or_exit(StatePool::create(
        *machine.ledger(), {layer.slot()},
        plan_state({layer.slot()}, {.tokens = keys, .sequences = static_cast<int>(sequences)})));
    const auto halves = random_halves();
    for (int64_t s = 0; s < sequences; ++s) {
      states_.push_back(value_or_exit(pool_->new_sequence()));
      if (!states_.back()->reserve(keys)) std::abort();
      states_.back()->set_length(keys - rows);
      for (int64_t block = 0; block * kPageTokens < keys; ++block) {
        uint16_t* page = states_.back()->key_page(0, block, 0);
        const uint64_t n = layer.slot().page_bytes() / sizeof(uint16_t);
        for (uint64_t i = 0; i < n; i += halves.size())
          std::copy_n(halves.begin(), std::min<uint64_t>(halves.size(), n - i), page + i);
      }
    }
    const auto shape = Context::shape(machine.pool().size());
    run(*shape, 0);
    context_ = value_or_exit(Context::run(machine.ledger(), machine.shared_pool(), shape->arena_peak()));
    macs_ = shape->costs().back().f32_macs;
  }

  // Seconds of one step of sequence `s`; of the op alone, not of filling its inputs.
  double run(int64_t s) { return run(*context_, s); }
  int64_t sequences() const { return static_cast<int64_t>(states_.size()); }
  uint64_t macs() const { return macs_; }  // of one step
  uint64_t bytes() const { return layer_.slot().page_bytes() * (keys_ / kPageTokens); }

 private:
  double run(Context& context, int64_t s) {
    Step step;
    step.tokens.resize(rows_);
    step.spans.push_back({.row_begin = 0, .n_rows = rows_, .position = keys_ - rows_,
                          .state = context.computes() ? states_[s].get() : nullptr});
    Act q = context.allocate(rows_, layer_.n_heads() * layer_.k_dim());
    Act k = context.allocate(rows_, layer_.n_kv_heads * layer_.k_dim());
    Act v = context.allocate(rows_, layer_.n_kv_heads * layer_.head_dim);
    if (context.computes())
      for (Act* x : {&q, &k, &v})
        for (int64_t i = 0; i < x->rows() * x->cols(); ++i) x->data()[i] = static_cast<float>(i % 251 - 125) * 0.01f;
    const double begin = now_seconds();
    attend(context, step, layer_.params(rope_), q, k, v);
    return now_seconds() - begin;
  }

  const Layer layer_;
  const int64_t keys_, rows_;
  const Rope rope_;
  std::shared_ptr<StatePool> pool_;
  std::vector<std::unique_ptr<SequenceState>> states_;
  std::unique_ptr<Context> context_;
  uint64_t macs_ = 0;
};

void decode(benchmark::State& state, const Layer& layer, int64_t keys) {
  const int64_t bytes = static_cast<int64_t>(layer.slot().page_bytes()) * (keys / kPageTokens);
  Bench bench(layer, keys, 1, std::max<int64_t>(1, (kDecodeBytes + bytes - 1) / bytes));
  Machine& machine = Machine::get();
  Ratios ratios;
  for (auto _ : state) {
    // The memory is shared with whoever else is on the machine: reading alternates with each step.
    double peak = machine.f32_peak(), probe_seconds = 0, seconds = 0;
    for (int64_t s = 0; s < bench.sequences(); ++s) {
      probe_seconds += machine.read_seconds(bench.bytes());
      seconds += bench.run(s);
    }
    peak = (peak + machine.f32_peak()) / 2;
    const double n = static_cast<double>(bench.sequences());
    const double read = n * static_cast<double>(bench.bytes()) / probe_seconds;
    const double read_seconds = n * static_cast<double>(bench.bytes()) / read;
    const double mac_seconds = n * static_cast<double>(bench.macs()) / peak;
    state.SetIterationTime(seconds / n);
    ratios.add("share", std::max(read_seconds, mac_seconds) / seconds);
    ratios.add("bytes", read_seconds / seconds);
    ratios.add("peak", mac_seconds / seconds);
    ratios.add("read_GBs", read * 1e-9);
  }
  ratios.report(state, "share");
}

void prefill(benchmark::State& state, const Layer& layer, int64_t keys, int64_t rows) {
  Bench bench(layer, keys, rows, 1);
  Machine& machine = Machine::get();
  bench.run(0);
  Ratios ratios;
  for (auto _ : state) {
    double matmul = machine.matmul_rate(layer.k_dim()), peak = machine.f32_peak();
    double seconds = 0;
    int rounds = 0;
    while (seconds < 0.02) seconds += bench.run(0), ++rounds;
    seconds /= rounds;
    matmul = (matmul + machine.matmul_rate(layer.k_dim())) / 2;
    peak = (peak + machine.f32_peak()) / 2;
    const double rate = static_cast<double>(bench.macs()) / seconds;
    state.SetIterationTime(seconds);
    ratios.add("share", rate / matmul);
    ratios.add("peak", rate / peak);
    ratios.add("matmul_of_peak", matmul / peak);
    ratios.add("Gmacs", rate * 1e-9);
  }
  ratios.report(state, "share");
}

std::string label(const char* phase, const Layer& layer, int64_t keys) {
  return std::string(phase) + "/dim:" + std::to_string(layer.head_dim) + (layer.latent ? "latent" : "") +
         "/queries:" + std::to_string(layer.group) + "/keys:" + std::to_string(keys);
}

template <typename Body>
void measure(const std::string& name, int repetitions, Body body) {
  benchmark::RegisterBenchmark(name.c_str(), body)
      ->Iterations(repetitions)
      ->UseManualTime()
      ->Unit(benchmark::kMillisecond);
}

void add_decode(const Layer& layer, int64_t keys) {
  measure(label("decode", layer, keys), kDecodeRepetitions,
          [=](benchmark::State& state) { decode(state, layer, keys); });
}

void add_prefill(const Layer& layer, int64_t keys, int64_t rows) {
  const auto name = label("prefill", layer, keys) + (rows < keys ? "/rows:" + std::to_string(rows) : "");
  measure(name, kPrefillRepetitions, [=](benchmark::State& state) { prefill(state, layer, keys, rows); });
}

void add_all() {
  for (const int64_t keys : {8192, 32768}) {
    for (const int head_dim : {64, 80, 96, 128, 256})
      for (const int group : {1, 4, 8}) add_decode({head_dim, 8, group}, keys);
    add_decode({512, 1, 16, true}, keys);
    for (const int head_dim : {64, 80, 96, 128, 256}) {
      add_prefill({head_dim, keys == 8192 ? 2 : 1, 4}, keys, keys);
      add_prefill({head_dim, 8, 4}, keys, 512);
    }
    add_prefill({512, 1, 16, true}, keys, 512);
  }
  for (const int head_dim : {64, 128}) add_prefill({head_dim, 4, 8}, 512, 512);
}

}  // namespace
}  // namespace venturi

int main(int argc, char** argv) {
  venturi::add_all();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
}
