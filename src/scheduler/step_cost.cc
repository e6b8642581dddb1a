#include "scheduler/step_cost.h"

#include <algorithm>
#include <cmath>

namespace venturi {

namespace {

// A fifth of the way, in ratio, a step: the model follows a change of the machine in some ten steps.
constexpr double kGain = 0.2;

double fourth(double x) { return x * x * (x * x); }

}  // namespace

double StepCost::seconds(int64_t rows, int64_t context) const {
  if (rows <= 0) return 0;
  return std::sqrt(std::sqrt(fourth(weights_seconds) + fourth(static_cast<double>(rows) * per_row_seconds))) +
         static_cast<double>(context) * per_context_seconds;
}

int64_t StepCost::rows_within(double limit, int64_t rows, int64_t context, int64_t each, int64_t most) const {
  int64_t low = 0, high = std::max<int64_t>(most, 0);
  while (low < high) {
    const int64_t middle = low + (high - low + 1) / 2;
    if (seconds(rows + middle, context + middle * each) <= limit) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

void StepCost::observe(int64_t rows, int64_t context, double measured) {
  if (rows <= 0 || !(measured > 0) || !std::isfinite(measured)) return;
  const double predicted = seconds(rows, context);
  const double error = std::log(std::clamp(measured / predicted, 0.5, 2.0));
  // How much of the prediction moves with each parameter, in ratio.
  const double w = fourth(weights_seconds), r = fourth(static_cast<double>(rows) * per_row_seconds);
  const double attention = static_cast<double>(context) * per_context_seconds / predicted;
  const double weights = (1 - attention) * w / (w + r), compute = (1 - attention) * r / (w + r);
  // Half of a step is down the squared error. The other half takes all three along: a machine that is slower is
  // so for what this step does not show, too, and weights are not seen in steps of many rows, nor attention.
  const double norm = weights * weights + compute * compute + attention * attention;
  const auto factor = [&](double share) { return std::exp(kGain * error * (1 + share) / (1 + norm)); };
  weights_seconds *= factor(weights);
  per_row_seconds *= factor(compute);
  per_context_seconds *= factor(attention);
}

void StepCost::observe_move(int64_t tokens, double seconds) {
  if (tokens <= 0 || !(seconds > 0) || !std::isfinite(seconds)) return;
  move_seconds_per_token += kGain * (seconds / static_cast<double>(tokens) - move_seconds_per_token);
}

}  // namespace venturi
