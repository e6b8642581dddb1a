// The expert that is expected back last leaves.
//
// How likely an expert is chosen at its layer's next visit is a logistic function of a few
// features: whether it was chosen at the last visit, how often over the last few, dozens and
// hundreds of visits; and, for the layers that the step has still to reach, how much oftener than
// usual it follows what the layer before has just chosen, and what steps that chose alike so far
// chose there (recall.h). Weights are learnt as the run goes, one set for layers to come in this
// step and one for layers of the next, for all experts, so that a model which routes by recency is
// served by recency and one with favourites by frequency. The wait until an expert's next use is
// then the layers still to pass, and, if it is not chosen there, as many rounds as its chance says.
#include <algorithm>
#include <cmath>
#include <vector>

#include "memory/eviction/eviction.h"
#include "memory/eviction/recall.h"

namespace venturi {

namespace {

constexpr int kSpans = 4;
// Share of a frequency that one visit replaces: spans of 4, 12, 36 and 108 visits.
constexpr float kGain[kSpans] = {1 / 4.0f, 1 / 12.0f, 1 / 36.0f, 1 / 108.0f};
constexpr float kFirstVisits = 4;  // that a frequency begins with, all as the mean
constexpr int kFar =
    1 + 1 + 2 * kSpans;  // features: constant, last visit, log odds of frequencies, frequencies
constexpr int kNear = kFar + 2;  // and affinity, recall
constexpr float kRate = 0.8f;    // of learning
constexpr float kPrior = 4;      // pairs of chance that the affinity begins with
constexpr float kPairDecay = 0.998f;
constexpr int64_t kForesight = 8;  // layers

float logistic(float x) { return 1 / (1 + std::exp(-x)); }

// A logistic function that learns (AdaGrad).
class Head {
 public:
  explicit Head(int features) : n_(features) {
    // Frequencies weigh as they do in a mean of them; what follows corrects it.
    weights_[0] = -1.8f;
    weights_[1] = 0.5f;
    for (int s = 0; s < kSpans; ++s) weights_[2 + s] = 0.4f;
    weights_[kFar] = 0.1f;
    weights_[kFar + 1] = 0.7f;
  }
  float operator()(const float* x) const {
    float sum = 0;
    for (int i = 0; i < n_; ++i) sum += weights_[i] * x[i];
    return logistic(sum);
  }
  void see(const float* x, bool chosen) {
    const float miss = static_cast<float>(chosen) - (*this)(x);
    for (int i = 0; i < n_; ++i) gradient_[i] += miss * x[i];
  }
  void learn(int64_t seen) {
    for (int i = 0; i < n_; ++i) {
      const float g = gradient_[i] / static_cast<float>(seen);
      gradient_[i] = 0;
      squares_[i] += g * g;
      weights_[i] += kRate * g / (std::sqrt(squares_[i]) + 1e-6f);
    }
  }

 private:
  int n_;
  float weights_[kNear] = {}, gradient_[kNear] = {}, squares_[kNear] = {};
};

class Forecast : public Evictor {
 public:
  explicit Forecast(const ExpertShape& shape)
      : shape_(shape),
        recall_(shape),
        used_(static_cast<size_t>(shape.units())),
        frequency_(used_.size() * kSpans),
        features_(used_.size() * kNear),
        far_(used_.size()),
        near_(used_.size()),
        odds_(used_.size()),
        pairs_(used_.size() * static_cast<size_t>(shape.n_experts)),
        pair_totals_(used_.size()),
        visits_(static_cast<size_t>(shape.n_layers)) {}

  void chosen(int64_t layer, std::span<const int32_t> experts) override {
    const int64_t n = shape_.n_experts;
    mean_ = static_cast<float>(experts.size()) / static_cast<float>(n);
    if (!started_) start();
    std::vector<char> now(static_cast<size_t>(n));
    for (const int32_t e : experts) now[static_cast<size_t>(e)] = 1;
    recall_.chosen(layer, experts, chances(layer));
    learn(layer, now);
    count(layer, now);
    if (shape_.n_layers > 1) count_pairs(layer, experts);
    for (int64_t next = layer + 1; next <= layer + kForesight && next < shape_.n_layers; ++next)
      foresee(next, layer, experts);
    last_layer_ = layer;
    last_chosen_.assign(experts.begin(), experts.end());
  }

  double worth(int64_t layer, int32_t expert) const override {
    const auto u = static_cast<size_t>(layer * shape_.n_experts + expert);
    const int64_t ahead = (layer - last_layer_ - 1 + shape_.n_layers) % shape_.n_layers + 1;
    const double often = std::max(far_[u], 1e-3f);
    return -(static_cast<double>(ahead) / static_cast<double>(shape_.n_layers) +
             (1 - static_cast<double>(near_[u])) / often);
  }
  double likelihood(int64_t layer, int32_t expert) const override {
    return near_[static_cast<size_t>(layer * shape_.n_experts + expert)];
  }

 private:
  std::span<const float> at(const std::vector<float>& of_units, int64_t layer) const {
    return {&of_units[static_cast<size_t>(layer * shape_.n_experts)],
            static_cast<size_t>(shape_.n_experts)};
  }
  std::span<const float> chances(int64_t layer) const { return at(far_, layer); }
  void start() {
    std::fill(frequency_.begin(), frequency_.end(), mean_);
    for (size_t u = 0; u < far_.size(); ++u) estimate(u);
    started_ = true;
  }
  // As long as nothing is known of the step that will reach it.
  void estimate(size_t u) {
    float* x = &features_[u * kNear];
    x[0] = 1;
    x[1] = static_cast<float>(used_[u]);
    // Against the mean of all, so that weights mean the same for every shape.
    for (int s = 0; s < kSpans; ++s) {
      x[2 + s] = std::log((frequency_[u * kSpans + s] + 0.1f * mean_) / mean_);
      x[2 + kSpans + s] = frequency_[u * kSpans + s] - mean_;
    }
    x[kFar] = x[kFar + 1] = 0;
    near_[u] = far_[u] = far_head_(x);
    odds_[u] = Recall::log_odds(far_[u]);
  }
  void learn(int64_t layer, const std::vector<char>& now) {
    const bool foreseen = layer > 0 && last_layer_ >= 0;
    for (int64_t e = 0; e < shape_.n_experts; ++e) {
      const float* x = &features_[static_cast<size_t>(layer * shape_.n_experts + e) * kNear];
      far_head_.see(x, now[static_cast<size_t>(e)]);
      if (foreseen) near_head_.see(x, now[static_cast<size_t>(e)]);
    }
    far_head_.learn(shape_.n_experts);
    if (foreseen) near_head_.learn(shape_.n_experts);
  }
  void count(int64_t layer, const std::vector<char>& now) {
    const float first =
        1 / (kFirstVisits + static_cast<float>(++visits_[static_cast<size_t>(layer)]));
    for (int64_t e = 0; e < shape_.n_experts; ++e) {
      const auto u = static_cast<size_t>(layer * shape_.n_experts + e);
      used_[u] = now[static_cast<size_t>(e)];
      for (int s = 0; s < kSpans; ++s)
        frequency_[u * kSpans + s] +=
            std::max(kGain[s], first) * (static_cast<float>(used_[u]) - frequency_[u * kSpans + s]);
      estimate(u);
    }
  }
  // How often expert b of this layer met expert a of the layer before.
  void count_pairs(int64_t layer, std::span<const int32_t> experts) {
    if (last_layer_ < 0 || (last_layer_ + 1) % shape_.n_layers != layer) return;
    const int64_t n = shape_.n_experts;
    for (const int32_t a : last_chosen_) {
      const auto from = static_cast<size_t>(last_layer_ * n + a);
      float* row = &pairs_[from * static_cast<size_t>(n)];
      for (int64_t b = 0; b < n; ++b) row[b] *= kPairDecay;
      pair_totals_[from] = pair_totals_[from] * kPairDecay + 1;
      for (const int32_t b : experts) row[b] += 1;
    }
  }
  void foresee(int64_t next, int64_t layer, std::span<const int32_t> experts) {
    const int64_t n = shape_.n_experts;
    std::vector<float> shift(static_cast<size_t>(n));
    recall_.foretell(next, chances(next), at(odds_, next), shift);
    for (int64_t b = 0; b < n; ++b) {
      const auto u = static_cast<size_t>(next * n + b);
      float* x = &features_[u * kNear];
      if (next == layer + 1) x[kFar] = affinity(layer, experts, u);
      x[kFar + 1] = shift[static_cast<size_t>(b)];
      near_[u] = near_head_(x);
    }
  }
  float affinity(int64_t layer, std::span<const int32_t> experts, size_t u) const {
    const auto n = static_cast<size_t>(shape_.n_experts);
    const float usual = std::max(frequency_[u * kSpans + kSpans - 1], 1e-3f);
    float sum = 0;
    for (const int32_t a : experts) {
      const size_t from = static_cast<size_t>(layer) * n + static_cast<size_t>(a);
      sum += std::log((pairs_[from * n + u % n] + kPrior * usual) /
                      ((pair_totals_[from] + kPrior) * usual));
    }
    return sum / std::sqrt(static_cast<float>(experts.size()));
  }

  ExpertShape shape_;
  Recall recall_;
  bool started_ = false;
  float mean_ = 0;  // chance of an expert about which nothing is known
  std::vector<uint8_t> used_;
  std::vector<float> frequency_;  // [units, kSpans]
  std::vector<float> features_;   // [units, kNear]
  std::vector<float> far_,
      near_;  // chances: of a step of which nothing is known, of the present one
  std::vector<float> odds_;       // log odds of far_
  std::vector<float> pairs_, pair_totals_;
  std::vector<int64_t> visits_;
  Head far_head_{kFar}, near_head_{kNear};
  int64_t last_layer_ = -1;
  std::vector<int32_t> last_chosen_;
};

}  // namespace

extern const Eviction eviction_forecast;
const Eviction eviction_forecast{"forecast",
                                 "expected back last: recency, frequency, the layer before and "
                                 "steps that chose alike, weighed as learnt",
                                 [](const ExpertShape& shape) -> std::unique_ptr<Evictor> {
                                   return std::make_unique<Forecast>(shape);
                                 }};

}  // namespace venturi
