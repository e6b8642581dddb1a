#include "loadtest/draws.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/random.h"

namespace venturi::loadtest {

double Draws::uniform() { return random_uniform(seed_, stream_, counter_++); }

double Draws::normal() {
  // Box and Muller; 1 - u is never 0.
  const double radius = std::sqrt(-2 * std::log(1 - uniform()));
  return radius * std::cos(2 * std::numbers::pi * uniform());
}

double Draws::gamma(double shape) {
  if (shape < 1) {
    const double u = 1 - uniform();
    return gamma(shape + 1) * std::pow(u, 1 / shape);
  }
  const double d = shape - 1.0 / 3, c = 1 / std::sqrt(9 * d);
  for (;;) {
    const double x = normal(), t = 1 + c * x;
    if (t <= 0) continue;
    const double v = t * t * t, u = 1 - uniform();
    if (std::log(u) < 0.5 * x * x + d - d * v + d * std::log(v)) return d * v;
  }
}

int64_t Draws::geometric(double mean) {
  if (mean <= 1) return 1;
  const double trials = std::log(1 - uniform()) / std::log1p(-1 / mean);
  return 1 + static_cast<int64_t>(std::min(trials, 1e9));
}

size_t Draws::pick(const std::vector<double>& weights) {
  double sum = 0;
  for (const double w : weights) sum += w;
  double at = uniform() * sum;
  for (size_t i = 0; i + 1 < weights.size(); ++i)
    if ((at -= weights[i]) < 0) return i;
  return weights.size() - 1;
}

Zipf::Zipf(double exponent, int64_t limit) {
  double sum = 0;
  summed_.reserve(static_cast<size_t>(limit));
  for (int64_t k = 1; k <= limit; ++k) {
    sum += std::pow(static_cast<double>(k), -exponent);
    summed_.push_back(sum);
  }
}

int64_t Zipf::draw(Draws& draws) const {
  const double at = draws.uniform() * summed_.back();
  const auto found = std::upper_bound(summed_.begin(), summed_.end(), at);
  return 1 + std::min<int64_t>(found - summed_.begin(), static_cast<int64_t>(summed_.size()) - 1);
}

double Zipf::probability(int64_t k) const {
  const size_t i = static_cast<size_t>(k - 1);
  return (summed_[i] - (i ? summed_[i - 1] : 0)) / summed_.back();
}

}  // namespace venturi::loadtest
