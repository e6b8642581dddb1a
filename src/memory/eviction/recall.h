// Steps that chose alike: which past steps the present one resembles, and what they chose further
// on.
//
// A token's experts follow its identity and its context more than the token before it, so a step
// that has chosen like an earlier one in its first layers will go on like it. The present step
// repeats past step h, or is new. Layer by layer, the log odds of "repeats h" against "new" grow by
// those of each expert that h chose: with f its chance for a new step, a repeating step takes it
// with same(f) = f + (1 - f) / 2. Layers are not independent: their evidence counts half. Threads:
// one at a time.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "memory/eviction/eviction.h"

namespace venturi {

class Recall {
 public:
  explicit Recall(const ExpertShape& shape);

  // The present step's choices at `layer`; `chance` [n_experts] is each expert's for a step about
  // which nothing is known. A layer that is not after the last one begins a step.
  void chosen(int64_t layer, std::span<const int32_t> experts, std::span<const float> chance);
  // How the log odds of each expert [n_experts] at a later layer of the present step differ from
  // those of `chance`, which are log_odds(chance).
  void foretell(int64_t layer, std::span<const float> chance, std::span<const float> log_odds,
                std::span<float> shift);
  static float log_odds(float chance);

 private:
  static constexpr int kSteps = 512;  // remembered

  uint64_t* row(int step, int64_t layer) {
    return &past_[static_cast<size_t>((step * shape_.n_layers + layer) * words_)];
  }
  void begin_step();
  void weigh();

  ExpertShape shape_;
  int64_t words_;                 // of 64 experts
  std::vector<uint64_t> past_;    // [kSteps, n_layers, words_], a bit per expert
  std::vector<uint8_t> telling_;  // [kSteps]: of few enough rows that its choices say something
  std::vector<float> log_odds_, weight_;   // [kSteps] of the present step's repeating each
  std::vector<int> likely_;  // steps whose weight counts
  float repeats_ = 0;        // of their weights
  std::vector<float> evidence_, met_;  // [n_experts]; evidence_: for a step that chose it
  int present_ = 0, n_steps_ = 1;
  int64_t last_layer_ = -1;
};

}  // namespace venturi
