// From a row of logits to a token.
//
// The chain, in this order (that of llama.cpp):
//   logit bias → repetition, presence and frequency penalties → top-k → locally typical → top-p →
//   min-p → temperature → draw.
// Each filter sees the probabilities of what the one before it left, renormalised, at
// temperature 1. Mirostat, where chosen, stands in place of the filters: bias → penalties →
// temperature → mirostat. Temperature 0 takes the greatest logit after bias and penalties, the
// lowest id among equals; no filter and no seed matters then.
//
// The draw is by inverse transform over the candidates that are left (in order of id and without a list of
// them where nothing cuts), with one uniform number that is a function of (seed, position): so a token is a function of the parameters, the seed, the
// position, the logits and the tokens accepted before (through penalties and mirostat), and of
// nothing else.
//
// Penalties look at the last `penalty_last_n` accepted tokens, c of them being the token at hand, d of those not of the
// prompt, or d = c where `prompt_counts`:
//   logit ← logit / r if c > 0 and logit > 0, logit · r if c > 0 and not   (Keskar et al. 2019, arXiv 1909.05858)
//   logit ← logit − presence · [d > 0] − frequency · d                     (the OpenAI API counts what was sampled alone)
// Typical: Meister et al. 2023, arXiv 2202.00666. Top-p: Holtzman et al. 2020, arXiv 1904.09751.
// Min-p: Nguyen et al. 2024, arXiv 2407.01082. Mirostat: Basu et al. 2021, arXiv 2007.14966,
// algorithm 1 (version 1), and its authors' version 2, which cuts at the surprise μ itself. The
// surprise that steers μ is that under the model's distribution before the cut, as in the paper.
//
// A sampler belongs to one sequence and is used by one thread at a time.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/result.h"

namespace venturi {

using LogitBias = std::map<int32_t, float>;  // by token; -infinity bans one

struct SamplingParams {
  float temperature = 0.8f;  // 0: greedy
  int32_t top_k = 40;        // 0: off
  float top_p = 0.95f;       // 1: off
  float min_p = 0.05f;       // 0: off
  float typical_p = 1.0f;    // 1: off
  float repetition_penalty = 1.0f;
  float presence_penalty = 0.0f;
  float frequency_penalty = 0.0f;
  int32_t penalty_last_n = 64;          // 0: no penalties, -1: the whole sequence
  bool prompt_counts = true;            // for presence and frequency, too
  int32_t mirostat = 0;                 // 0: off, 1, 2
  float mirostat_tau = 5.0f;            // the surprise to hold, in bits
  float mirostat_eta = 0.1f;            // the learning rate
  std::shared_ptr<const LogitBias> logit_bias = {};  // null: none; copies share it
  uint64_t seed = 0;
};

// Says which parameter is out of its range, and what that is.
Status validate(const SamplingParams& params);

class Sampler {
 public:
  struct Candidate {
    int32_t token = 0;
    float logit = 0;
    double probability = 0;
  };

  static Result<Sampler> create(SamplingParams params);

  // logits: [vocab_size]. -infinity excludes a token; NaN and +infinity are errors that name the
  // position and the token.
  Result<int32_t> sample(std::span<const float> logits, uint64_t position);

  // What sample() draws from, without drawing: decreasing, or in order of id where nothing was
  // sorted.
  Result<std::vector<Candidate>> distribution(std::span<const float> logits, uint64_t position);

  // A token became part of the sequence: drawn, or forced. Mirostat learns from it if it is the one drawn last.
  void accept(int32_t token);
  // One of the prompt did.
  void accept_prompt(int32_t token) { remember(token, params_.prompt_counts); }

  // Becomes as `other` is now, which may be done often: to say what it would draw.
  void follow(const Sampler& other);

  const SamplingParams& params() const { return params_; }
  double mirostat_mu() const { return mu_; }

 private:
  explicit Sampler(SamplingParams params);

  Status load(std::span<const float> logits, uint64_t position);  // bias and penalties into logits_
  Status make_candidates(std::span<const float> logits, uint64_t position);
  bool penalises() const;
  void remember(int32_t token, bool drawn);
  void take_all();
  void take_top(size_t k);
  void weigh(float temperature);      // probabilities of candidates_
  void weigh_all(float temperature);  // the same of the whole vocabulary, into logits_
  bool draws_from_all(size_t vocab_size) const;
  int32_t draw_from_all(double uniform);
  void keep_typical();
  void keep_top_p();
  void keep_min_p();
  void keep_mirostat();

  SamplingParams params_;
  std::vector<float> logits_;  // [vocab_size], after bias and penalties
  std::vector<Candidate> candidates_, scratch_;
  std::vector<double> block_sums_;
  float max_logit_ = 0;

  struct Recent {
    int32_t token;
    bool drawn;  // or counted as if it had been
  };
  struct Counts {
    int32_t all = 0, drawn = 0;
  };
  std::deque<Recent> recent_;
  std::unordered_map<int32_t, Counts> counts_;  // of recent_

  double mu_ = 0;
  int32_t drawn_ = -1;
  std::vector<double> surprises_;  // of candidates_, in bits, before mirostat's cut
  double drawn_surprise_ = 0;
};

}  // namespace venturi
