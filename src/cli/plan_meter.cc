#include "cli/plan_meter.h"

#include <algorithm>

#include "base/random.h"
#include "cli/flags.h"
#include "cli/planning.h"

namespace venturi {

namespace {

constexpr size_t kSamples = 256;

bool decodes(const StepWork::Rows& rows) { return rows.outputs && rows.count == 1; }

Step shape_of(std::span<const StepWork::Rows> work) {
  Step step;
  for (const StepWork::Rows& rows : work) {
    step.spans.push_back({.row_begin = step.n_rows(), .n_rows = rows.count, .position = rows.first, .state = nullptr});
    step.tokens.resize(step.tokens.size() + static_cast<size_t>(rows.count));
    for (int64_t i = rows.outputs ? rows.drafts : -1; i >= 0; --i) step.output_rows.push_back(step.n_rows() - 1 - i);
  }
  return step;
}

struct Sum {
  int64_t steps = 0, rows = 0;
  double predicted = 0, measured = 0;
  std::string text(const char* what) const {
    if (steps == 0) return fmt::format("{} not measured", what);
    const double n = static_cast<double>(rows);
    return fmt::format("{} {} predicted, {} measured ({:+.0f} %)", what, format_rate(n / predicted), format_rate(n / measured),
                       100 * (predicted / measured - 1));
  }
};

}  // namespace

void PlanMeter::step(const StepReport& step) {
  next_.step(step);
  const std::lock_guard lock(mutex_);
  const uint64_t n = steps_++;
  Sample sample{{step.work.begin(), step.work.end()}, step.engine_seconds};
  if (n < kSamples) {
    samples_.push_back(std::move(sample));
  } else if (const uint64_t at = random_bits(0, 0, n) % (n + 1); at < kSamples) {
    samples_[at] = std::move(sample);
  }
}

std::string PlanMeter::report(Engine& engine, const PlanFile& plan) const {
  const CostInputs in = cost_inputs(engine, plan);
  const std::lock_guard lock(mutex_);
  Sum decode, prompts;
  double disk = 0;
  for (const Sample& sample : samples_) {
    Step step = shape_of(sample.work);
    step.spills = engine.footprint().state_file > 0;
    const StepForecast forecast = forecast_step(in, step);
    Sum& sum = std::all_of(sample.work.begin(), sample.work.end(), decodes) ? decode : prompts;
    ++sum.steps;
    sum.rows += step.n_rows();
    sum.predicted += forecast.seconds;
    sum.measured += sample.seconds;
    disk += forecast.disk_bytes;
  }
  std::string text = fmt::format("plan    {}; {}", decode.text("decode"), prompts.text("steps with prompts"));
  if (const uint64_t read = engine.disk_counters().disk_bytes; read > 0 && steps_ > 0)
    text += fmt::format("; disk a step {} predicted, {} measured",
                        format_bytes(static_cast<uint64_t>(disk / static_cast<double>(samples_.size()))), format_bytes(read / steps_));
  return text + fmt::format("; memory {} predicted, {} held at most; {} of {} steps\n", format_bytes(engine.footprint().peak()),
                            format_bytes(engine.ledger().peak()), samples_.size(), steps_);
}

}  // namespace venturi
