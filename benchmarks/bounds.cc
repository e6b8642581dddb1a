#include "bounds.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>

#include "base/checked.h"
#include "base/clock.h"
#include "kernels/matmul/layout.h"
#include "ops/linear.h"
#include "planner/probe.h"

namespace venturi {

namespace {

constexpr uint64_t kProbeBytes = 256u << 20;
constexpr int64_t kProductRows = 512, kProductColumns = 2048;

// A packed weight of small values in `codec`.
struct Held {
  Weight weight;
  std::vector<uint8_t> bytes;
};

Held hold(const Codec& codec, int64_t n_in, int64_t n_out) {
  Held held;
  std::vector<float> row(n_in);
  held.weight = {.name = std::string(codec.name), .codec = &codec, .n_in = n_in, .n_out = n_out, .packed = true,
                 .row_bytes = codec.bytes(n_in)};
  held.weight.plane_bytes = packed_bytes(*codec.layout, n_in, n_out);
  held.bytes.resize(held.weight.plane_bytes);
  std::vector<uint8_t> rows(held.weight.row_bytes * kGroupRows);
  for (int64_t r = 0; r < n_out; r += kGroupRows) {
    for (int i = 0; i < kGroupRows; ++i) {
      for (int64_t k = 0; k < n_in; ++k) row[k] = static_cast<float>((r + i) * 31 + k * 7 - (r + i + k) / 5 * 5) * 1e-5f;
      codec.encode(row.data(), nullptr, rows.data() + i * held.weight.row_bytes, n_in);
    }
    pack_group(*codec.layout, rows.data(), static_cast<int64_t>(held.weight.row_bytes), kGroupRows, n_in, r / kGroupRows,
               held.bytes.data());
  }
  held.weight.data = held.bytes.data();
  return held;
}

const Codec& codec_named(std::string_view name) {
  const Codec* codec = find_codec(name);
  if (!codec) std::abort();
  return *codec;
}

double median(std::vector<double> values) { return spread_of(std::move(values)).median; }

}  // namespace

int Machine::threads() {
  const char* wanted = std::getenv("VENTURI_BENCH_THREADS");
  const int n = wanted ? std::atoi(wanted) : 0;
  return n > 0 ? n : default_thread_count();
}

Machine& Machine::get() {
  static Machine machine;
  return machine;
}

Machine::Machine()
    : ledger_(Ledger::create()),
      pool_(std::make_shared<ThreadPool>(threads())),
      memory_(value_or_exit(Buffer::allocate(*ledger_, kProbeBytes, "probe"))),
      context_(value_or_exit(Context::run(ledger_, pool_, 16u << 20))) {
  std::memset(memory_.data(), 1, memory_.size());
}

double Machine::read_seconds(uint64_t bytes) {
  double seconds = 0;
  for (uint64_t left = bytes; left > 0;) {
    if (read_at_ == memory_.size()) read_at_ = 0;
    const uint64_t n = std::min(left, memory_.size() - read_at_);
    // Whole chunks of the probe's; a short rest counts by its share.
    const uint64_t whole = std::min<uint64_t>(round_up(static_cast<int64_t>(n), 2 << 20), memory_.size() - read_at_);
    seconds += static_cast<double>(n) / read_bandwidth(*pool_, {memory_.data() + read_at_, whole});
    read_at_ += whole;
    left -= n;
  }
  return seconds;
}

double Machine::f32_peak() { return venturi::f32_peak(*pool_, 0.01); }
double Machine::int8_peak() { return venturi::int8_peak(*pool_, 0.01); }

double Machine::matmul_rate(int64_t k) {
  static std::map<int64_t, std::vector<Held>> weights;
  auto& both = weights[k];
  if (both.empty()) {
    both.push_back(hold(codec_named("F32"), k, kProductColumns));
    both.push_back(hold(codec_named("F16"), k, kProductColumns));
    for (Held& held : both) held.weight.data = held.bytes.data();
  }
  Act x = context_->allocate(kProductRows, k);
  for (int64_t i = 0; i < kProductRows * k; ++i) x.data()[i] = static_cast<float>(i % 17) * 0.1f;
  double best = 0;
  for (const Held& held : both) {
    linear(*context_, held.weight, x);  // brings the weights into the caches
    constexpr int kRounds = 4;
    const double begin = now_seconds();
    for (int i = 0; i < kRounds; ++i) linear(*context_, held.weight, x);
    best = std::max(best, kRounds * static_cast<double>(kProductRows * kProductColumns * k) / (now_seconds() - begin));
  }
  return best;
}

void Ratios::add(const std::string& name, double value) {
  for (auto& [known, values] : values_)
    if (known == name) return values.push_back(value);
  values_.push_back({name, {value}});
}

void Ratios::report(benchmark::State& state, const std::string& spread) const {
  for (const auto& [name, values] : values_) {
    state.counters[name] = median(values);
    if (name != spread) continue;
    state.counters[name + "_low"] = *std::min_element(values.begin(), values.end());
    state.counters[name + "_high"] = *std::max_element(values.begin(), values.end());
  }
}

}  // namespace venturi
