#include "engine/speculator.h"

#include <algorithm>

#include "base/clock.h"
#include "engine/engine.h"

namespace venturi {

Status check_speculation(const Engine& engine, const Speculator* speculator) {
  if (!speculator || engine.repeats()) return {};
  return error(Code::kUnsupported,
               "{} keeps a recurrent state, which cannot take a wrong guess back; run it without speculative decoding",
               engine.file().path);
}

Speculator::Speculator(std::vector<std::unique_ptr<Drafter>> drafters, int64_t most)
    : drafters_(std::move(drafters)), most_(most) {
  counts_.held_at.resize(static_cast<size_t>(most));
}

void Speculator::guess(std::span<Guessing> streams, const StepCost& cost) {
  const double begin = now_seconds();
  double guess_seconds = 0;
  std::vector<bool> waits(streams.size());  // for a drafter that is asked when it is known how much pays
  for (size_t i = 0; i < streams.size(); ++i) {
    Guessing& s = streams[i];
    s.most = std::clamp<int64_t>(s.most, 0, most_);
    for (const auto& drafter : drafters_) {
      if (s.most == 0 || !s.guesses.empty()) break;
      if (drafter->guess_seconds() > 0) {
        waits[i] = true;
        guess_seconds = drafter->guess_seconds();
        break;
      }
      drafter->guess({&s, 1});
    }
  }
  std::vector<GuessingStream> choices;
  int64_t context = 0;
  for (size_t i = 0; i < streams.size(); ++i) {
    const auto length = static_cast<int64_t>(streams[i].tokens.size());
    const int64_t most = waits[i] ? streams[i].most : static_cast<int64_t>(streams[i].guesses.size());
    const int confidence = streams_[streams[i].stream].confidence = streams[i].confidence;
    choices.push_back({streams_[streams[i].stream].acceptance[confidence].rate(all_[confidence].rate()), length, most});
    context += length;
  }
  const std::vector<int64_t> chosen =
      choose_guesses(cost, static_cast<int64_t>(streams.size()), context, choices, guess_seconds);
  std::vector<Guessing> asked;
  for (size_t i = 0; i < streams.size(); ++i) {
    streams[i].most = chosen[i];
    if (waits[i]) asked.push_back(streams[i]);
    if (!waits[i]) streams[i].guesses.resize(static_cast<size_t>(chosen[i]));
  }
  if (!asked.empty()) drafters_.back()->guess(asked);
  for (size_t i = 0, n = 0; i < streams.size(); ++i) {
    if (waits[i]) streams[i].guesses = std::move(asked[n++].guesses);
    if (!streams[i].guesses.empty()) continue;
    for (Acceptance& a : streams_[streams[i].stream].acceptance) a.rest();
  }
  counts_.guess_seconds += now_seconds() - begin;
}

void Speculator::learn(uint64_t stream, int64_t guessed, int64_t held) {
  Stream& s = streams_[stream];
  s.acceptance[s.confidence].learn(guessed, held);
  all_[s.confidence].learn(guessed, held);
  ++counts_.checks;
  counts_.guessed += static_cast<uint64_t>(guessed);
  counts_.held += static_cast<uint64_t>(held);
  for (int64_t i = 0; i < held; ++i) ++counts_.held_at[static_cast<size_t>(i)];
}

void Speculator::forget(uint64_t stream) {
  streams_.erase(stream);
  for (const auto& drafter : drafters_) drafter->forget(stream);
}

}  // namespace venturi
