#include "cli/prediction.h"

#include <algorithm>
#include <filesystem>

#include "cli/flags.h"
#include "cli/planning.h"
#include "cli/report.h"

namespace venturi {

namespace {

// "(-8 %)": how far the measured is from the predicted.
std::string off(double measured, double predicted) { return fmt::format("({:+.0f} %)", 100 * (measured / predicted - 1)); }

std::string rates(double predicted, double measured) {
  return fmt::format("{} predicted, {} measured", format_rate(predicted),
                     measured > 0 ? fmt::format("{} {}", format_rate(measured), off(measured, predicted)) : "not");
}

bool reads_disk(const Engine& engine) {
  return engine.residency().streams() || engine.neurons() || engine.footprint().state_file > 0;
}

}  // namespace

PredictionBasis prediction_basis(const Engine& engine, std::optional<PlanFile> given) {
  if (given) return {.plan = std::move(given), .hint = {}};
  const auto none = [](std::string why) { return PredictionBasis{.plan = {}, .hint = fmt::format("plan    no prediction: {}\n", why)}; };
  const std::string path = stored_profile_path();
  std::error_code ignored;
  if (path.empty() || !std::filesystem::exists(path, ignored)) return none("there is no profile of this machine (venturi probe)");
  auto profile = read_profile(path);
  if (!profile) return none(profile.error().message);
  if (profile->instruction_set != isa_name(chosen_isa()))
    return none(fmt::format("{} is of another machine ({}); venturi probe makes one", path, profile->instruction_set));
  if (reads_disk(engine) && profile->disk.rates.empty()) return none(fmt::format("{} has no disk rates; venturi probe makes one", path));
  PlanFile file{.model = engine.file().path, .model_bytes = 0, .fingerprint = {}, .profile = std::move(*profile), .plans = {Plan()}};
  return {.plan = std::move(file), .hint = {}};
}

std::string prediction_report(Engine& engine, const PlanFile& plan, const Ran& ran) {
  const CostInputs in = cost_inputs(engine, plan);
  const EngineOptions& o = engine.options();
  const StepForecast f = forecast_decode(in, 1, std::clamp<int64_t>(ran.position, 0, o.context - 1));
  std::string text = "plan    decode " + rates(1 / f.seconds, ran.seconds > 0 ? static_cast<double>(ran.tokens) / ran.seconds : 0);
  if (const uint64_t read = engine.disk_counters().disk_bytes; read > 0 && ran.steps > 0)
    text += fmt::format("; disk a step {} predicted, {} measured", format_bytes(static_cast<uint64_t>(f.disk_bytes)),
                        format_bytes(read / static_cast<uint64_t>(ran.steps)));
  double predicted = 0;
  int64_t tokens = 0;
  for (const Ran::Prompt& p : ran.prompts) {
    predicted += forecast_prefill(in, p.tokens, o.batch, p.position).seconds;
    tokens += p.tokens;
  }
  if (tokens > 0) {
    const auto n = static_cast<double>(tokens), prompts = static_cast<double>(ran.prompts.size());
    text += fmt::format("\nplan    prefill of {} tokens {}; first token after {:.3g} s predicted, {:.3g} s {} measured{}", tokens,
                        rates(n / predicted, ran.prompt_seconds > 0 ? n / ran.prompt_seconds : 0), predicted / prompts,
                        ran.first_token_seconds / prompts, off(ran.first_token_seconds, predicted),
                        ran.prompts.size() > 1 ? ", in the mean" : "");
  }
  text += fmt::format("\nplan    memory {} predicted, {} held at most; the process with its program and libraries {} at most\n",
                      format_bytes(engine.footprint().peak()), format_bytes(engine.ledger().peak()), format_bytes(peak_rss()));
  for (const std::string& assumed : assumptions(plan.profile, engine.file(), o.threads, reads_disk(engine)))
    text += fmt::format("plan    assumes {}\n", assumed);
  return text;
}

}  // namespace venturi
