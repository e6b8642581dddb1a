// scan_step against its definition, on every instruction set that runs here.
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "kernels/rows/rows.h"

namespace venturi {

namespace {

TEST(ScanStep, MatchesItsDefinition) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  for (const Isa isa : runnable_isas())
    for (const int64_t n : {1, 5, 16, 17, 31, 64, 128}) {
      std::vector<float> state(n), b(n), c(n);
      for (auto* v : {&state, &b, &c})
        for (float& x : *v) x = normal(random);
      const float decay = 0.75f, x = 0.3f;
      const std::vector<float> before = state;
      const float y = row_kernels(isa).scan_step(state.data(), decay, x, b.data(), c.data(), n);
      double expected = 0, magnitude = 0;
      for (int64_t i = 0; i < n; ++i) {
        const double next = static_cast<double>(decay) * before[i] + static_cast<double>(x) * b[i];
        // Two roundings of terms no larger than their sum of magnitudes.
        EXPECT_NEAR(state[i], next, 1.2e-7 * (std::abs(decay * before[i]) + std::abs(x * b[i])))
            << isa_name(isa);
        expected += static_cast<double>(state[i]) * c[i];
        magnitude += std::abs(static_cast<double>(state[i]) * c[i]);
      }
      // n / 16 sums in a lane, four folds.
      EXPECT_NEAR(y, expected, 6e-8 * static_cast<double>(n / 16 + 6) * magnitude)
          << isa_name(isa) << " n " << n;
    }
}

}  // namespace

}  // namespace venturi
