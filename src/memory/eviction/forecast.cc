// The expert that is expected back last leaves.
//
// How likely an expert is chosen at its layer's next visit is a logistic function of a few features:
// whether it was chosen at the last visit, how often over the last few, dozens and hundreds of
// visits, and, for the layer that comes next, how much oftener than usual it follows what the layer
// before has just chosen. The weights are learnt as the run goes (one set for all experts and
// layers), so that a model which routes by recency is served by recency and one with favourites by
// frequency. The wait until an expert's next use is then the layers still to pass, and, if it is
// not chosen there, as many rounds as its frequency says.
#include <algorithm>
#include <cmath>
#include <vector>

#include "memory/eviction/eviction.h"

namespace venturi {

namespace {

constexpr int kSpans = 4;
// Share of a frequency that one visit replaces: spans of 2, 8, 32 and 128 visits.
constexpr float kGain[kSpans] = {1 / 2.0f, 1 / 8.0f, 1 / 32.0f, 1 / 128.0f};
constexpr int kFeatures = 1 + 1 + kSpans + 1;  // constant, last visit, frequencies, affinity
constexpr float kRate = 0.02f;                 // of learning
constexpr float kPrior = 4;                    // pairs of chance that the affinity begins with
constexpr float kPairDecay = 0.998f;

float logistic(float x) { return 1 / (1 + std::exp(-x)); }

class Forecast : public Evictor {
 public:
  explicit Forecast(const ExpertShape& shape)
      : shape_(shape),
        used_(static_cast<size_t>(shape.units())),
        frequency_(used_.size() * kSpans),
        affinity_(used_.size()),
        chance_(used_.size()),
        pairs_(used_.size() * static_cast<size_t>(shape.n_experts)),
        pair_totals_(used_.size()) {
    // Frequencies weigh as they do in a mean of them; what follows corrects it.
    std::fill(std::begin(weights_), std::end(weights_), 0.0f);
    weights_[0] = -1;
    weights_[1] = 0.5f;
    for (int s = 0; s < kSpans; ++s) weights_[2 + s] = 0.4f;
    weights_[kFeatures - 1] = 0.3f;
  }

  void chosen(int64_t layer, std::span<const int32_t> experts) override {
    const int64_t n = shape_.n_experts;
    mean_ = static_cast<float>(experts.size()) / static_cast<float>(n);
    if (!started_) start();
    std::vector<char> now(static_cast<size_t>(n));
    for (const int32_t e : experts) now[static_cast<size_t>(e)] = 1;
    learn(layer, now);
    for (int64_t e = 0; e < n; ++e) {
      const auto u = static_cast<size_t>(layer * n + e);
      used_[u] = now[static_cast<size_t>(e)];
      for (int s = 0; s < kSpans; ++s)
        frequency_[u * kSpans + s] += kGain[s] * (static_cast<float>(used_[u]) - frequency_[u * kSpans + s]);
      affinity_[u] = 0;
      chance_[u] = estimate(u);
    }
    if (shape_.n_layers > 1) {
      count_pairs(layer, experts);
      foresee((layer + 1) % shape_.n_layers, layer, experts);
    }
    last_layer_ = layer;
    last_chosen_.assign(experts.begin(), experts.end());
  }

  double worth(int64_t layer, int32_t expert) const override {
    const auto u = static_cast<size_t>(layer * shape_.n_experts + expert);
    const int64_t ahead = (layer - last_layer_ - 1 + shape_.n_layers) % shape_.n_layers + 1;
    const double often = std::max(frequency_[u * kSpans + kSpans - 1], 1e-3f);
    return -(static_cast<double>(ahead) / static_cast<double>(shape_.n_layers) +
             (1 - static_cast<double>(chance_[u])) / often);
  }
  double likelihood(int64_t layer, int32_t expert) const override {
    return chance_[static_cast<size_t>(layer * shape_.n_experts + expert)];
  }

 private:
  void start() {
    std::fill(frequency_.begin(), frequency_.end(), mean_);
    for (size_t u = 0; u < chance_.size(); ++u) chance_[u] = estimate(u);
    started_ = true;
  }
  // Frequencies as log odds against the mean of all, so that weights mean the same for every shape.
  void features(size_t u, float* x) const {
    x[0] = 1;
    x[1] = static_cast<float>(used_[u]);
    for (int s = 0; s < kSpans; ++s)
      x[2 + s] = std::log((frequency_[u * kSpans + s] + 0.1f * mean_) / mean_);
    x[kFeatures - 1] = affinity_[u];
  }
  float estimate(size_t u) const {
    float x[kFeatures], sum = 0;
    features(u, x);
    for (int i = 0; i < kFeatures; ++i) sum += weights_[i] * x[i];
    return logistic(sum);
  }
  void learn(int64_t layer, const std::vector<char>& now) {
    float gradient[kFeatures] = {};
    for (int64_t e = 0; e < shape_.n_experts; ++e) {
      const auto u = static_cast<size_t>(layer * shape_.n_experts + e);
      float x[kFeatures];
      features(u, x);
      const float miss = static_cast<float>(now[static_cast<size_t>(e)]) - chance_[u];
      for (int i = 0; i < kFeatures; ++i) gradient[i] += miss * x[i];
    }
    for (int i = 0; i < kFeatures; ++i) {
      const float g = gradient[i] / static_cast<float>(shape_.n_experts);
      squares_[i] += g * g;
      weights_[i] += kRate * g / (std::sqrt(squares_[i]) + 1e-6f) * 10;
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
    for (int64_t b = 0; b < n; ++b) {
      const auto u = static_cast<size_t>(next * n + b);
      const float usual = std::max(frequency_[u * kSpans + kSpans - 1], 1e-3f);
      float sum = 0;
      for (const int32_t a : experts) {
        const auto from = static_cast<size_t>(layer * n + a);
        const float met = pairs_[from * static_cast<size_t>(n) + static_cast<size_t>(b)];
        sum += std::log((met + kPrior * usual) / ((pair_totals_[from] + kPrior) * usual));
      }
      affinity_[u] = sum / std::sqrt(static_cast<float>(experts.size()));
      chance_[u] = estimate(u);
    }
  }

  ExpertShape shape_;
  bool started_ = false;
  float mean_ = 0;  // chance of an expert about which nothing is known
  std::vector<uint8_t> used_;
  std::vector<float> frequency_, affinity_, chance_;
  std::vector<float> pairs_, pair_totals_;
  float weights_[kFeatures], squares_[kFeatures] = {};
  int64_t last_layer_ = -1;
  std::vector<int32_t> last_chosen_;
};

}  // namespace

extern const Eviction eviction_forecast;
const Eviction eviction_forecast{
    "forecast", "expected back last: recency, frequency and the layer before, weighed as learnt",
    [](const ExpertShape& shape) -> std::unique_ptr<Evictor> { return std::make_unique<Forecast>(shape); }};

}  // namespace venturi
