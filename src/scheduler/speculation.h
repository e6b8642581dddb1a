// How many guessed tokens are worth checking (speculative decoding, Leviathan et al. 2023, arXiv 2211.17192).
//
// A step may carry guesses after a stream's last token: it computes a row for each, and all that hold are drawn in
// that one step. With a the chance that a guess holds, k guesses give 1 + a + … + a^k tokens for the time of k more
// rows, which are almost free while a step is bound by reading weights and dear once it computes. Threads: plain values.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "scheduler/step_cost.h"

namespace venturi {

// The chance that a guess holds, from those that were checked lately.
class Acceptance {
 public:
  // `before`: what is thought before anything was seen.
  double rate(double before = 0.5) const { return (held_ + kPrior * before) / (tried_ + kPrior); }
  // Of `guessed` guesses in a row the first `held` held; what is behind one that did not is not known.
  void learn(int64_t guessed, int64_t held);
  // A step without guesses: what was learnt fades, so that they are tried again.
  void rest();

 private:
  static constexpr double kPrior = 2;  // checks that `before` weighs as much as
  double held_ = 0, tried_ = 0;
};

struct GuessingStream {
  double acceptance = 0;  // of each guess, where those before it held
  int64_t context = 0;    // tokens before the first guess
  int64_t most = 0;       // guesses that there may be
};

// For each stream, how many guesses make the most tokens a second of the step, which has `rows` rows that attend
// `context` tokens without them. Making the nth guesses of all streams takes `guess_seconds`.
std::vector<int64_t> choose_guesses(const StepCost& cost, int64_t rows, int64_t context,
                                    std::span<const GuessingStream> streams, double guess_seconds = 0);

}  // namespace venturi
