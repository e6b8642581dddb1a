#include "codecs/scale_search.h"

namespace venturi::search {

void load_samples(const float* values, const float* importance, int n, Samples& samples) {
  for (int i = 0; i < n; ++i) {
    const float v = values[i];
    samples.x[i] = std::isnan(v) ? 0.0f : std::clamp(v, -kLargestHalf, kLargestHalf);
  }
  float largest = 0;
  if (importance)
    for (int i = 0; i < n; ++i)
      if (std::isfinite(importance[i])) largest = std::max(largest, importance[i]);
  // The quotient, not a product with 1 / largest: that is infinite for a subnormal.
  for (int i = 0; i < n; ++i) {
    const bool valid = largest > 0 && std::isfinite(importance[i]) && importance[i] > 0;
    samples.w[i] = largest > 0 ? (valid ? importance[i] / largest : 0.0f) : 1.0f;
  }
}

float extreme(const float* x, int n) {
  float far = 0;
  for (int i = 0; i < n; ++i)
    if (std::abs(x[i]) > std::abs(far)) far = x[i];
  return far;
}

Extremes extremes(const float* x, const float* w, int n) {
  float total = 0;
  for (int i = 0; i < n; ++i) total += w[i];
  const float heavy = kHeavy * total / static_cast<float>(n);
  Extremes far{0, 0};
  for (int i = 0; i < n; ++i) {
    if (w[i] > 0 && std::abs(x[i]) > std::abs(far.all)) far.all = x[i];
    if (w[i] >= heavy && std::abs(x[i]) > std::abs(far.heavy)) far.heavy = x[i];
  }
  return far;
}

}  // namespace venturi::search
