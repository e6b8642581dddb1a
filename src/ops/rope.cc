#include "ops/rope.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/rows/rows.h"

namespace venturi {

std::vector<double> Rope::plain(int64_t dims, double base, double factor) {
  std::vector<double> f(dims / 2);
  for (size_t i = 0; i < f.size(); ++i) f[i] = std::pow(base, -2.0 * static_cast<double>(i) / static_cast<double>(dims)) / factor;
  return f;
}

std::vector<double> Rope::yarn(int64_t dims, double base, double factor, double trained_context, double beta_fast,
                               double beta_slow) {
  // The pair that makes `turns` turns over the trained context.
  const auto pair_of = [&](double turns) {
    return static_cast<double>(dims) * std::log(trained_context / (turns * 2 * M_PI)) / (2 * std::log(base));
  };
  const double low = std::max(0.0, std::floor(pair_of(beta_fast)));
  const double high = std::min(static_cast<double>(dims) - 1, std::ceil(pair_of(beta_slow)));
  std::vector<double> f = plain(dims, base);
  for (size_t i = 0; i < f.size(); ++i) {
    const double ramp = std::clamp((static_cast<double>(i) - low) / std::max(0.001, high - low), 0.0, 1.0);
    f[i] = f[i] * (1 - ramp) + f[i] / factor * ramp;
  }
  return f;
}

void Rope::table(int64_t position, float* cosine, float* sine) const {
  for (size_t i = 0; i < frequencies.size(); ++i) {
    const double angle = static_cast<double>(position) * frequencies[i];
    cosine[i] = static_cast<float>(std::cos(angle)) * magnitude;
    sine[i] = static_cast<float>(std::sin(angle)) * magnitude;
  }
}

void Rope::rotate(float* head, const float* cosine, const float* sine, float* scratch) const {
  const int64_t half = static_cast<int64_t>(frequencies.size());
  if (interleaved) {
    for (int64_t i = 0; i < half; ++i) {
      scratch[i] = head[2 * i];
      scratch[i + half] = head[2 * i + 1];
    }
    std::memcpy(head, scratch, 2 * half * sizeof(float));
  }
  row_kernels().rotate_halves(head, cosine, sine, half);
}

}  // namespace venturi
