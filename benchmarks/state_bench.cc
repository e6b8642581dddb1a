// Decoding with state on disk beside its bound: state_bench MODEL CONTEXT STATE_MEMORY FOLDER
// [REPETITIONS]
//
// Two engines of one model, in turns: all state in memory, and so much of it as STATE_MEMORY says.
// Between them the spilled pages are read in the same order with nothing computed. The bound of a
// token is the larger of the time in memory and the time to read what is spilled. The context is
// taken as it is (zeros): what keys say changes no time.
#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "base/clock.h"
#include "engine/engine.h"
#include "planner/probe.h"

namespace venturi {
namespace {

constexpr int64_t kBatch = 512, kSteps = 8;

struct Side {
  std::unique_ptr<Engine> engine;
  std::unique_ptr<SequenceState> sequence;

  Status open(const char* model, int64_t context, uint64_t state_memory, const char* folder) {
    EngineOptions options{.context = context + 64, .batch = kBatch, .state_memory = state_memory};
    if (state_memory > 0) options.spill = folder;
    engine = TRY(Engine::open(model, options));
    sequence = TRY(engine->new_sequence());
    for (int64_t at = 0; at < context; at += kBatch) {
      const int64_t n = std::min(kBatch, context - at);
      TRY(sequence->prepare(at, n));
      sequence->set_length(at + n);
    }
    return {};
  }
  // Seconds of a token.
  Result<double> decode(int64_t context) {
    sequence->truncate(context);
    const double begin = now_seconds();
    for (int64_t i = 0; i < kSteps; ++i) {
      const TokenId token = static_cast<TokenId>(i + 3);
      TRY(engine->feed(*sequence, {&token, 1}));
    }
    return (now_seconds() - begin) / kSteps;
  }
  // Seconds to read what is spilled once.
  Result<double> read_only() {
    const double begin = now_seconds();
    for (size_t slot = 0; slot < engine->info().slots.size(); ++slot)
      for (int64_t split = 0; split * kBlocksPerSplit < sequence->spilled(static_cast<int>(slot));
           ++split) {
        TRY(sequence->fetch(static_cast<int>(slot), split));
        sequence->release();
      }
    return now_seconds() - begin;
  }
};

Status run(int argc, char** argv) {
  const int64_t context = std::atoll(argv[2]);
  const uint64_t memory = TRY(parse_bytes(argv[3]));
  const int repetitions = argc > 5 ? std::atoi(argv[5]) : 7;
  Side resident, spilled;
  TRY(resident.open(argv[1], context, 0, nullptr));
  TRY(spilled.open(argv[1], context, memory, argv[4]));
  uint64_t expected = 0;
  for (size_t slot = 0; slot < spilled.engine->info().slots.size(); ++slot)
    expected += static_cast<uint64_t>(spilled.sequence->spilled(static_cast<int>(slot)) *
                                      spilled.sequence->page_stride(static_cast<int>(slot)));
  TRY(resident.decode(context));
  TRY(spilled.decode(context));
  std::vector<double> shares, slower, bandwidth, in_memory, on_disk, bytes;
  for (int r = 0; r < repetitions; ++r) {
    const double before = TRY(resident.decode(context));
    const double disk = TRY(spilled.read_only());
    const uint64_t read = spilled.engine->state_counters().read_bytes;
    const double tokens = TRY(spilled.decode(context));
    bytes.push_back(static_cast<double>(spilled.engine->state_counters().read_bytes - read) /
                    kSteps);
    const double disk_after = TRY(spilled.read_only()), after = TRY(resident.decode(context));
    const double compute = (before + after) / 2, reading = (disk + disk_after) / 2;
    shares.push_back(std::max(compute, reading) / tokens);
    slower.push_back(compute / tokens);
    bandwidth.push_back(static_cast<double>(expected) / reading);
    in_memory.push_back(1 / compute);
    on_disk.push_back(1 / tokens);
  }
  const StatePlan all =
      plan_state(spilled.engine->info().slots, {.tokens = context, .rows = kBatch});
  std::printf(
      "%s, context %ld: state %s, in memory at most %s (ring of %d cells), peak planned %s, held "
      "%s\n",
      argv[1], context, format_bytes(all.bytes).c_str(),
      format_bytes(spilled.engine->footprint().state).c_str(),
      spilled.engine->state_pool().ring()->cells(),
      format_bytes(spilled.engine->footprint().peak()).c_str(),
      format_bytes(spilled.engine->ledger().peak()).c_str());
  std::printf("read %s a token, %.3f of what is spilled; disk alone %s/s\n",
              format_bytes(static_cast<uint64_t>(spread_of(bytes).median)).c_str(),
              spread_of(bytes).median / expected,
              format_bytes(static_cast<uint64_t>(spread_of(bandwidth).median)).c_str());
  const Spread s = spread_of(shares);
  std::printf(
      "tokens/s: %.3f of the max(compute, disk) bound (%.3f to %.3f); %.3f of in memory; in memory "
      "%.2f, spilled %.2f\n",
      s.median, s.low, s.high, spread_of(slower).median, spread_of(in_memory).median,
      spread_of(on_disk).median);
  return {};
}

}  // namespace
}  // namespace venturi

int main(int argc, char** argv) {
  if (argc < 5) {
    std::fprintf(stderr, "state_bench MODEL CONTEXT STATE_MEMORY FOLDER [REPETITIONS]\n");
    return 2;
  }
  if (const auto status = venturi::run(argc, argv); !status) {
    std::fprintf(stderr, "%s\n", status.error().message.c_str());
    return 1;
  }
}
