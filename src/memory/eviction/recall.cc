#include "memory/eviction/recall.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace venturi {

namespace {

constexpr float kEvidence = 0.5f;  // of a layer, beside that of an independent one
constexpr float kNew = 8;  // pairs of chance: a step is new as often as it repeats one of so many
constexpr float kLeft =
    0.6f;  // of its chance is left to an expert that the repeated step did not choose

float same(float chance) { return chance + (1 - chance) / 2; }
float bounded(float chance) { return std::clamp(chance, 0.01f, 0.95f); }
float odds_of(float p) { return std::log(p / (1 - p)); }
constexpr float kNegligible = 1e-4f;  // a weight

template <typename Each>
void for_each_bit(const uint64_t* bits, int64_t words, Each each) {
  for (int64_t w = 0; w < words; ++w)
    for (uint64_t rest = bits[w]; rest != 0; rest &= rest - 1)
      each(static_cast<size_t>(w * 64 + std::countr_zero(rest)));
}

bool has(const uint64_t* bits, size_t expert) { return bits[expert / 64] >> (expert % 64) & 1; }

}  // namespace

Recall::Recall(const ExpertShape& shape)
    : shape_(shape),
      words_((shape.n_experts + 63) / 64),
      past_(static_cast<size_t>(kSteps * shape.n_layers * words_)),
      telling_(kSteps, 1),
      log_odds_(kSteps),
      weight_(kSteps),
      evidence_(static_cast<size_t>(shape.n_experts)),
      met_(evidence_.size()) {}

float Recall::log_odds(float chance) { return odds_of(bounded(chance)); }

void Recall::begin_step() {
  if (last_layer_ >= 0) {
    n_steps_ = std::min(n_steps_ + 1, kSteps);
    present_ = (present_ + 1) % kSteps;
  }
  std::fill_n(row(present_, 0), shape_.n_layers * words_, uint64_t{0});
  telling_[static_cast<size_t>(present_)] = 1;
  std::fill(log_odds_.begin(), log_odds_.end(), 0.0f);
}

void Recall::chosen(int64_t layer, std::span<const int32_t> experts,
                    std::span<const float> chance) {
  if (layer <= last_layer_ || last_layer_ < 0) begin_step();
  last_layer_ = layer;
  if (2 * static_cast<int64_t>(experts.size()) > shape_.n_experts)
    telling_[static_cast<size_t>(present_)] = 0;
  if (!telling_[static_cast<size_t>(present_)]) return;
  uint64_t* now = row(present_, layer);
  for (const int32_t e : experts) now[e / 64] |= uint64_t{1} << (e % 64);
  for (size_t e = 0; e < evidence_.size(); ++e) {
    const float f = bounded(chance[e]);
    evidence_[e] = kEvidence * std::log(has(now, e) ? same(f) / f : (1 - same(f)) / (1 - f));
  }
  for (int h = 0; h < n_steps_; ++h) {
    float odds = log_odds_[static_cast<size_t>(h)];
    for_each_bit(row(h, layer), words_, [&](size_t e) { odds += evidence_[e]; });
    log_odds_[static_cast<size_t>(h)] = odds;
  }
  weigh();
}

// The chance that the present step repeats each of the others.
void Recall::weigh() {
  float most = 0;
  for (int h = 0; h < n_steps_; ++h)
    if (h != present_) most = std::max(most, log_odds_[static_cast<size_t>(h)]);
  float sum = kNew * std::exp(-most);
  for (int h = 0; h < n_steps_; ++h) {
    const auto i = static_cast<size_t>(h);
    weight_[i] = h == present_ || !telling_[i] ? 0 : std::exp(log_odds_[i] - most);
    sum += weight_[i];
  }
  for (float& w : weight_) w /= sum;
  likely_.clear();
  repeats_ = 0;
  for (int h = 0; h < n_steps_; ++h) {
    const float w = weight_[static_cast<size_t>(h)];
    if (w < kNegligible) continue;
    repeats_ += w;
    likely_.push_back(h);
  }
}

void Recall::foretell(int64_t layer, std::span<const float> chance, std::span<const float> log_odds,
                      std::span<float> shift) {
  if (!telling_[static_cast<size_t>(present_)]) return std::fill(shift.begin(), shift.end(), 0.0f);
  std::fill(met_.begin(), met_.end(), 0.0f);
  for (const int h : likely_) {
    const float w = weight_[static_cast<size_t>(h)];
    for_each_bit(row(h, layer), words_, [&](size_t e) { met_[e] += w; });
  }
  for (size_t e = 0; e < met_.size(); ++e) {
    const float f = bounded(chance[e]);
    shift[e] =
        odds_of(met_[e] * same(f) + (repeats_ - met_[e]) * f * kLeft + (1 - repeats_) * f) -
        log_odds[e];
  }
}

}  // namespace venturi
