// Attention with a maximum fixed beforehand and a fallback (unified_maximum/generic.h) beside the online
// maximum that we use, the same splits by the same thread, alternating. `online_over_unified` is the median
// over the repetitions of the ratio of times: above 1 the unified maximum is faster. outside:P is the share of
// queries, in per cent, whose scores force the fallback.
// VENTURI_ISA chooses the instruction set.
#include <algorithm>
#include <cmath>
#include <random>

#include "base/clock.h"
#include "bounds.h"
#include "kernels/attention/attention.h"
#include "codecs/codec.h"
#include "unified_maximum/unified_maximum.h"

namespace venturi {
namespace {

constexpr int kBlocks = kSplitTokens / kPageTokens;

struct Outputs {
  Outputs(int queries, int v_dim)
      : top(queries), sum(queries), out(queries * value_stride(v_dim)), lanes(queries * 16) {}
  std::vector<float> top, sum, out, lanes;
};

// `splits` splits of one head, one behind the other, and queries over them.
class Bench {
 public:
  Bench(int head_dim, int queries, int64_t splits, int outside_percent)
      : dim_(head_dim), queries_(queries), splits_(splits), once_(queries, head_dim), again_(queries, head_dim),
        highest_(queries * 16), lo_(queries, 0), hi_(queries, splits * kSplitTokens),
        memory_(value_or_exit(Buffer::allocate(*Machine::get().ledger(), splits * kBlocks * page_elems() * 2, "pages"))),
        packed_(queries * head_dim) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    std::vector<uint16_t> halves(1 << 16);
    for (uint16_t& h : halves) h = f32_to_f16(normal(random));
    auto* pages = memory_.as<uint16_t>();
    for (int64_t i = 0; i < splits * kBlocks * page_elems(); ++i) pages[i] = halves[i % halves.size()];
    std::vector<float> rows(queries * head_dim);
    std::vector<const float*> at(queries);
    for (int q = 0; q < queries; ++q) {
      at[q] = rows.data() + q * head_dim;
      // Scores of a few units, or far beyond the bounds.
      const float scale = q * 100 < outside_percent * queries ? 400.0f : 2.0f;
      for (int i = 0; i < head_dim; ++i) rows[q * head_dim + i] = normal(random) * scale;
    }
    attention_kernels().pack_queries(at.data(), queries, head_dim, 1 / std::sqrt(static_cast<float>(head_dim)),
                                     packed_.data());
  }

  double online() {
    const double begin = now_seconds();
    for (int64_t s = 0; s < splits_; ++s) with(s, once_, [](const AttendSplit& a) { attention_kernels().split(a); });
    return now_seconds() - begin;
  }
  double unified(UnifiedSplit split) {
    const double begin = now_seconds();
    for (int64_t s = 0; s < splits_; ++s)
      with(s, once_, [&](const AttendSplit& a) {
        with(s, again_, [&](const AttendSplit& again) { outside_ += split(a, again, highest_.data()); });
      });
    return now_seconds() - begin;
  }
  int64_t outside() const { return outside_; }
  // sum of 2^s v over sum of 2^s of the last split, query 0.
  float result() const { return once_.out[0] / once_.sum[0]; }

 private:
  int64_t page_elems() const { return key_page_elems(dim_) + value_page_elems(dim_); }
  template <typename Body>
  void with(int64_t split, Outputs& to, Body body) {
    const uint16_t *keys[kBlocks], *values[kBlocks];
    const uint16_t* page = memory_.as<uint16_t>() + split * kBlocks * page_elems();
    for (int b = 0; b < kBlocks; ++b, page += page_elems()) {
      keys[b] = page;
      values[b] = page + key_page_elems(dim_);
    }
    body({.keys = keys, .values = values, .first_key = split * kSplitTokens, .n_blocks = kBlocks,
          .n_queries = queries_, .k_dim = dim_, .v_dim = dim_, .queries = packed_.data(), .lo = lo_.data(),
          .hi = hi_.data(), .soft_cap = 0, .top = to.top.data(), .sum = to.sum.data(), .out = to.out.data(),
          .lanes = to.lanes.data(), .next_keys = split + 1 < splits_ ? page : nullptr});
  }

  const int dim_, queries_;
  const int64_t splits_;
  Outputs once_, again_;
  std::vector<float> highest_;
  std::vector<int64_t> lo_, hi_;
  Buffer memory_;
  std::vector<float> packed_;
  int64_t outside_ = 0;
};

void measure(benchmark::State& state, UnifiedSplit split, int head_dim, int queries, int64_t splits, int outside) {
  Bench bench(head_dim, queries, splits, outside);
  bench.online();
  const float expected = bench.result();
  bench.unified(split);
  if (!(std::fabs(bench.result() - expected) <= 1e-4f * (1 + std::fabs(expected)))) state.SkipWithError("wrong result");
  Ratios ratios;
  for (auto _ : state) {
    double online = 0, unified = 0;
    while (online + unified < 0.04) {
      online += bench.online();
      unified += bench.unified(split);
    }
    state.SetIterationTime(unified);
    ratios.add("online_over_unified", online / unified);
  }
  ratios.report(state, "online_over_unified");
}

void add_all(UnifiedSplit split) {
  const auto add = [&](int dim, int queries, int64_t splits, int outside) {
    const std::string name = "unified/" + std::string(isa_name(chosen_isa())) + "/dim:" + std::to_string(dim) +
                             "/queries:" + std::to_string(queries) + (splits == 1 ? "/cached" : "/streamed") +
                             "/outside:" + std::to_string(outside);
    benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& state) { measure(state, split, dim, queries, splits, outside); })
        ->Iterations(15)
        ->UseManualTime()
        ->Unit(benchmark::kMillisecond);
  };
  for (const int dim : {64, 128})
    for (const int queries : {1, 4, 8, 96})
      for (const int64_t splits : {int64_t{1}, int64_t{512 << 20} / (kSplitTokens * dim * 4)})
        if (queries <= 8 || splits == 1) add(dim, queries, splits, 0);
  for (const int outside : {50, 100}) add(128, 8, 1, outside);
}

}  // namespace
}  // namespace venturi

int main(int argc, char** argv) {
  using namespace venturi;
#if defined(__x86_64__)
  if (chosen_isa() == Isa::kAvx512) add_all(avx512::unified);
  if (chosen_isa() == Isa::kAvx2) add_all(avx2::unified);
#endif
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
}
