// From a row of 128,256 logits to a token: each filter alone, on rows from peaked to flat. `over_read` is the
// time over that of reading the logits once from memory.
#include <cmath>

#include "base/clock.h"
#include "base/random.h"
#include "bounds.h"
#include "models/sampling.h"

namespace venturi {
namespace {

constexpr size_t kVocabSize = 128256;

std::vector<float> row(double scale) {  // near enough to a normal distribution
  std::vector<float> logits(kVocabSize);
  for (size_t i = 0; i < kVocabSize; ++i) {
    double x = -3;
    for (uint64_t k = 0; k < 6; ++k) x += random_uniform(1, 0, 6 * i + k);
    logits[i] = static_cast<float>(scale * x);
  }
  return logits;
}

void measure(benchmark::State& state, const SamplingParams& params, double scale) {
  const auto logits = row(scale);
  Sampler sampler = value_or_exit(Sampler::create(params));
  Ratios ratios;
  uint64_t position = 0;
  value_or_exit(sampler.sample(logits, position++));
  for (auto _ : state) {
    const double read = Machine::get().read_seconds(32 << 20) / (32 << 20) * kVocabSize * sizeof(float);
    const double begin = now_seconds();
    for (int i = 0; i < 4; ++i) benchmark::DoNotOptimize(value_or_exit(sampler.sample(logits, position++)));
    const double seconds = (now_seconds() - begin) / 4;
    state.SetIterationTime(seconds);
    ratios.add("ms", seconds * 1e3);
    ratios.add("over_read", seconds / read);
  }
  ratios.report(state, "ms");
}

void add_all() {
  SamplingParams off;
  off.top_k = 0;
  off.top_p = 1;
  off.min_p = 0;
  SamplingParams greedy = off, top_k = off, top_p = off, min_p = off, typical = off, mirostat = off;
  greedy.temperature = 0;
  top_k.top_k = 40;
  top_p.top_p = 0.95f;
  min_p.min_p = 0.05f;
  typical.typical_p = 0.9f;
  mirostat.mirostat = 2;
  const std::pair<const char*, SamplingParams> cases[] = {{"greedy", greedy}, {"top_k", top_k}, {"top_p", top_p},
                                                          {"min_p", min_p}, {"typical", typical}, {"mirostat", mirostat}};
  const std::pair<const char*, double> rows[] = {{"flat", 1e-3}, {"wide", 0.7}, {"peaked", 6}};
  for (const auto& [name, params] : cases)
    for (const auto& [shape, scale] : rows)
      benchmark::RegisterBenchmark((std::string("sampling/") + name + "/" + shape).c_str(),
                                   [=](benchmark::State& state) { measure(state, params, scale); })
          ->Iterations(9)
          ->UseManualTime()
          ->Unit(benchmark::kMillisecond);
}

}  // namespace
}  // namespace venturi

int main(int argc, char** argv) {
  venturi::add_all();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
}
