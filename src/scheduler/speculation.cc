#include "scheduler/speculation.h"

#include <algorithm>

namespace venturi {

namespace {

// Some ten checks are remembered, and forgotten over some fifty steps without any.
constexpr double kMemory = 0.9, kFading = 0.98;

}  // namespace

void Acceptance::learn(int64_t guessed, int64_t held) {
  for (int64_t i = 0; i < guessed && i <= held; ++i) {
    held_ = kMemory * held_ + (i < held);
    tried_ = kMemory * tried_ + 1;
  }
}

void Acceptance::rest() {
  held_ *= kFading;
  tried_ *= kFading;
}

std::vector<int64_t> choose_guesses(const StepCost& cost, int64_t rows, int64_t context,
                                    std::span<const GuessingStream> streams, double guess_seconds) {
  struct Next {
    size_t stream;
    double gain;  // the chance that this guess and all before it hold
  };
  const auto less = [](const Next& a, const Next& b) { return a.gain != b.gain ? a.gain < b.gain : a.stream > b.stream; };
  std::vector<Next> heap;
  for (size_t i = 0; i < streams.size(); ++i)
    if (streams[i].most > 0) heap.push_back({i, streams[i].acceptance});
  std::make_heap(heap.begin(), heap.end(), less);

  // Likeliest first, all of them; the best beginning of that order is taken, for rows may pay only together.
  std::vector<int64_t> counts(streams.size()), best = counts;
  int64_t depth = 0;
  double tokens = static_cast<double>(streams.size());
  double best_rate = tokens / cost.seconds(rows, context);
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), less);
    const Next next = heap.back();
    heap.pop_back();
    const GuessingStream& stream = streams[next.stream];
    const int64_t n = ++counts[next.stream];
    depth = std::max(depth, n);
    tokens += next.gain;
    ++rows;
    context += stream.context + n;
    const double rate = tokens / (cost.seconds(rows, context) + static_cast<double>(depth) * guess_seconds);
    if (rate > best_rate) {
      best_rate = rate;
      best = counts;
    }
    if (n < stream.most) {
      heap.push_back({next.stream, next.gain * stream.acceptance});
      std::push_heap(heap.begin(), heap.end(), less);
    }
  }
  return best;
}

}  // namespace venturi
