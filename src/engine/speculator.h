// Speculative decoding: guesses for the streams of a step, as many as pay (decision 014).
//
// Guesses come from the first drafter that has some. How many are checked is decided by the cost model and by
// how well those of each stream held lately. Threads: one at a time.
#pragma once

#include <array>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "engine/drafter.h"
#include "scheduler/speculation.h"

namespace venturi {

class Engine;
class Speculator;

struct SpeculationCounts {
  uint64_t checks = 0;           // of a stream's guesses in a step
  uint64_t guessed = 0, held = 0;  // guesses
  std::vector<uint64_t> held_at = {};  // by place among those of a step
  double guess_seconds = 0;      // making guesses
};

// Code::kUnsupported for guesses with a model whose state cannot take them back. Null guesses nothing.
Status check_speculation(const Engine& engine, const Speculator* speculator);

class Speculator {
 public:
  // At most `most` guesses for a stream in a step. A drafter whose guesses take time comes last.
  Speculator(std::vector<std::unique_ptr<Drafter>> drafters, int64_t most);

  int64_t most() const { return most_; }
  // Fills the guesses of streams that would make a step of their own, one row each.
  void guess(std::span<Guessing> streams, const StepCost& cost);
  // Of `guessed` guesses of a stream that were checked, the first `held` were drawn.
  void learn(uint64_t stream, int64_t guessed, int64_t held);
  void forget(uint64_t stream);

  const SpeculationCounts& counts() const { return counts_; }

 private:
  const std::vector<std::unique_ptr<Drafter>> drafters_;
  const int64_t most_;
  struct Stream {
    std::array<Acceptance, kConfidences> acceptance;
    int confidence = 0;  // of its guesses in the step at hand
  };
  std::array<Acceptance, kConfidences> all_;  // what is thought of a stream before it is known
  std::unordered_map<uint64_t, Stream> streams_;
  SpeculationCounts counts_;
};

}  // namespace venturi
