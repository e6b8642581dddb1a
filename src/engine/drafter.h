// Who guesses the tokens that come next (decision 014).
//
// A guess decides nothing: the model computes a row for it, draws as it would have without it, and the next guess
// counts only where the draw was this one. So a drafter may be wrong, but not slow. Threads: one at a time.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "models/sampling.h"
#include "tokenizers/tokenizer.h"

namespace venturi {

class Engine;

struct Guessing {
  uint64_t stream = 0;               // a number that is its own
  std::span<const TokenId> tokens;   // of the stream, all that are known
  const Sampler* sampler = nullptr;  // that will draw the next, at this position
  uint64_t position = 0;
  int64_t most = 0;                  // guesses wanted
  std::vector<TokenId> guesses = {};
  int confidence = 0;  // guesses of one confidence hold about equally often; below kConfidences
};
constexpr int kConfidences = 4;

class Drafter {
 public:
  virtual ~Drafter() = default;
  // Up to `most` guesses for each of the streams, or none.
  virtual void guess(std::span<Guessing> streams) = 0;
  virtual void forget(uint64_t stream) {}  // it has ended
  // What the nth guesses of a step's streams take together, as measured; 0: nothing worth counting.
  virtual double guess_seconds() const { return 0; }
};

// Prompt look-up: what followed when the last tokens were there before (Saxena 2023). Takes the longest match of
// two tokens at least, the latest among equals; a copy that reaches the end goes on with what it has copied.
struct LookedUp {
  std::vector<TokenId> guesses = {};
  int64_t match = 0;  // tokens, at most 8
};
LookedUp look_up(std::span<const TokenId> tokens, int64_t most);
std::unique_ptr<Drafter> lookup_drafter();

// A smaller model of the same vocabulary, which draws with the random numbers that the stream will draw with.
// Its engine has a sequence for each stream; `engine` is what it guesses for. Code::kUnsupported for another
// vocabulary, and for a state that cannot be cut.
Result<std::unique_ptr<Drafter>> model_drafter(std::unique_ptr<Engine> draft, const Engine& engine);

}  // namespace venturi
