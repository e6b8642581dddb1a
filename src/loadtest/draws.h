// Random draws of a load, a function of (seed, stream) and of nothing else.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace venturi::loadtest {

// One sequence of draws. Streams of the same seed are independent.
class Draws {
 public:
  Draws(uint64_t seed, uint64_t stream) : seed_(seed), stream_(stream) {}

  double uniform();  // in [0, 1)
  double normal();   // mean 0, variance 1
  // Shape k > 0 and scale 1: mean k, variance k, CV 1/sqrt(k). Marsaglia and Tsang, "A simple method
  // for generating gamma variables", ACM TOMS 26(3), 2000; below k = 1 by their boost, Gamma(k + 1) U^(1/k).
  double gamma(double shape);
  // 1, 2, … with mean `mean` >= 1: the number of trials up to the first success of chance 1/mean.
  int64_t geometric(double mean);
  // An index with chance weights[i] / sum; the sum is positive.
  size_t pick(const std::vector<double>& weights);

 private:
  uint64_t seed_, stream_, counter_ = 0;
};

// P(k) ~ k^-exponent for 1 <= k <= limit, by inversion of the summed table. What is asked for beyond the
// limit is thereby rejected, not clamped to it.
class Zipf {
 public:
  Zipf(double exponent, int64_t limit);
  int64_t draw(Draws& draws) const;
  double probability(int64_t k) const;

 private:
  std::vector<double> summed_;
};

}  // namespace venturi::loadtest
