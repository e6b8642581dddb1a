#include "cli/planning.h"

#include <algorithm>
#include <ctime>
#include <filesystem>

#include "base/checked.h"
#include "base/log.h"
#include "engine/plan_probe.h"

namespace venturi {

namespace {

// Types that a model may be made smaller with, the best first.
constexpr std::string_view kSmaller[] = {"Q8_0", "Q6_K", "Q5_K", "Q4_K", "Q4_0", "Q3_K", "Q2_K"};

// Older than this a profile says so: disks fill up, machines get other neighbours.
constexpr int64_t kOldDays = 30;

double each(const Plan& plan) { return plan.predicted.tokens_per_second / plan.options.sequences; }

// The first smaller type whose plan passes, with the size of the model in it.
template <typename Passes>
std::string smaller_type(const Planner& planner, const EngineOptions& options, Passes passes) {
  const uint64_t now = tensor_bytes(planner.file());
  for (const std::string_view name : kSmaller) {
    const Codec* codec = find_codec(name);
    if (!codec) continue;
    auto other = Planner::open_as(planner.file().path, *codec);
    if (!other) continue;
    const uint64_t bytes = tensor_bytes((*other)->file());
    if (bytes >= now) continue;
    auto plan = (*other)->try_fit(options);
    if (plan && passes(**other, *plan)) return fmt::format("{} ({})", name, format_bytes(bytes));
  }
  return "";
}

// The least memory, to a hundredth, with which the plan passes; 0 if none does.
template <typename Passes>
uint64_t least_memory(Planner& planner, EngineOptions options, uint64_t low, Passes passes) {
  const auto good = [&](uint64_t memory) {
    options.memory = memory;
    auto plan = planner.try_fit(options);
    return plan && passes(planner, *plan);
  };
  options.memory = Ledger::kUnlimited;
  auto all = planner.try_fit(options);
  if (!all || !passes(planner, *all)) return 0;
  uint64_t high = all->footprint.peak() + (8u << 20);
  while (low < high && high - low > high / 100) {
    const uint64_t middle = low + (high - low) / 2;
    (good(middle) ? high : low) = middle;
  }
  return good(high) ? high : 0;
}

std::string megabytes(uint64_t bytes) { return fmt::format("{}M", ceil_div(static_cast<int64_t>(bytes), 1000000)); }

}  // namespace

Result<MachineProfile> profile_for(const ProfileChoice& choice, const Planner& planner, const Plan& plan) {
  PlanProbeOptions probe{.threads = plan.options.threads, .memory = plan.options.memory};
  if (choice.probe) return probe_for_plan(planner, plan, probe);
  const std::string path = choice.file.empty() ? stored_profile_path() : choice.file;
  std::error_code ignored;
  probe.brief = true;
  if (choice.file.empty() && (path.empty() || !std::filesystem::exists(path, ignored))) {
    spdlog::warn("there is no stored profile of this machine (venturi probe); measured in a hurry");
    return probe_for_plan(planner, plan, probe);
  }
  MachineProfile profile = TRY(read_profile(path));
  if (choice.file.empty() && profile.instruction_set != isa_name(chosen_isa())) {
    spdlog::warn("{} is of another machine ({}); measured in a hurry", path, profile.instruction_set);
    return probe_for_plan(planner, plan, probe);
  }
  if (choice.file.empty()) TRY(probe_missing_codecs(planner, probe, profile));
  if (plan.reads_disk() && profile.disk.rates.empty())
    return error(Code::kInvalidArgument, "{} has no disk rates, and this model does not fit memory: run venturi probe", path);
  return profile;
}

std::vector<std::string> assumptions(const MachineProfile& profile, const ModelFile& model, int threads, bool reads_disk) {
  std::vector<std::string> list;
  if (profile.threads != threads)
    list.push_back(fmt::format("that {} threads do as the {} of the profile", threads, profile.threads));
  const int64_t days = (static_cast<int64_t>(std::time(nullptr)) - profile.taken) / 86400;
  if (profile.taken > 0 && days > kOldDays)
    list.push_back(fmt::format("that the machine is as it was {} days ago, when the profile was taken (venturi probe)", days));
  if (!reads_disk || profile.disk.rates.empty()) return list;
  // Profiles of before do not name the device, but the file.
  const bool absolute = profile.disk.path.starts_with('/');
  const std::string probed = !profile.disk.device.empty() ? profile.disk.device : absolute ? device_of(profile.disk.path) : "";
  const std::string own = device_of(model.files.empty() ? model.path : model.files[0].path());
  if (!probed.empty() && !own.empty() && probed != own)
    list.push_back(fmt::format("that the model's disk ({}) is as fast as the one measured ({}, {}); venturi probe -m {} measures it",
                               own, probed, profile.disk.path, model.path));
  return list;
}

CostInputs cost_inputs(Engine& engine, const PlanFile& plan) {
  const EngineOptions& o = engine.options();
  const Prediction& made = plan.plans[0].predicted;
  return {engine.model(), engine.catalog(), engine.residency(), plan.profile, o.threads, o.repack, &engine.state_pool().plan(),
          &engine.neuron_plan(), made.active_neurons > 0 ? made.active_neurons : kActiveNeurons,
          made.experts_found > 0 ? made.experts_found : -1};
}

namespace {

// Less is within what profiles move.
constexpr double kWorthwhile = 1.03;

// The first, or among `wanted` the one of which `worth` is most, if that is worthwhile.
template <typename Worth>
std::optional<Plan> best_of(Planner& planner, Plan first, const std::vector<EngineOptions>& wanted, const MachineProfile& profile,
                            int64_t prompt, Worth worth) {
  planner.predict(first, profile, prompt);
  std::optional<Plan> best;
  double most = kWorthwhile * worth(first.predicted);
  for (const EngineOptions& options : wanted) {
    auto plan = planner.try_fit(options);
    if (!plan) continue;
    planner.predict(*plan, profile, prompt);
    if (worth(plan->predicted) <= most) continue;
    most = worth(plan->predicted);
    best = std::move(*plan);
  }
  return best;
}

// The engine gives a window a share of the budget, whatever the disk. With a larger one more is in flight, with a smaller one
// more is pinned: the one with which decoding is fastest.
std::optional<Plan> better_window(Planner& planner, const Plan& first, const EngineOptions& options, const MachineProfile& profile,
                                  int64_t prompt) {
  const uint64_t window = first.residency.window_bytes;
  // A profile of one pattern does not tell what a window is worth.
  if (window == 0 || options.wishes.window_bytes > 0 || profile.disk.rates.size() < 2) return std::nullopt;
  std::vector<EngineOptions> wanted;
  for (const uint64_t quarters : {1, 2, 8, 16}) {
    wanted.push_back(options);
    wanted.back().wishes.window_bytes = std::max<uint64_t>(1, window * quarters / 4);
  }
  auto best = best_of(planner, first, wanted, profile, prompt, [](const Prediction& p) { return p.tokens_per_second; });
  if (best) best->name = fmt::format("--window {}k", best->residency.window_bytes / 1000);
  return best;
}

// Where weights stream, a prompt reads them once a step: steps of more rows read them less often, and leave less room for
// pinned ones.
std::optional<Plan> larger_steps(Planner& planner, const Plan& first, const EngineOptions& options, const MachineProfile& profile,
                                 int64_t prompt) {
  constexpr int64_t kMostRows = 4096;
  if (options.batch > 0) return std::nullopt;
  std::vector<EngineOptions> wanted;
  for (int64_t rows = 2 * first.options.batch; rows < 2 * prompt && rows <= kMostRows; rows *= 2) {
    wanted.push_back(options);
    wanted.back().batch = rows;
  }
  auto best = best_of(planner, first, wanted, profile, prompt, [](const Prediction& p) { return 1 / p.first_token_seconds; });
  if (best) best->name = fmt::format("-b {}", best->options.batch);
  return best;
}

}  // namespace

std::vector<Plan> plans_around(Planner& planner, Plan chosen, const EngineOptions& options, const MachineProfile& profile,
                               int64_t prompt) {
  std::vector<Plan> plans;
  const auto add = [&](const std::string& name, const EngineOptions& wanted) {
    auto plan = planner.try_fit(wanted);
    if (!plan) return;
    // A profile taken for a plan that fits memory has no disk to tell of one that does not.
    if (plan->reads_disk() && profile.disk.rates.empty()) return;
    plan->name = name;
    plans.push_back(std::move(*plan));
  };
  plans.push_back(std::move(chosen));
  const Plan first = plans[0];
  EngineOptions other = options;
  if (first.options.context > 1024) {
    other.context = 512;
    add("smaller context", other);
  }
  other = options;
  other.context = first.options.context;
  if (!planner.model().info().embeds) {
    other.sequences = options.sequences * 4;
    add("more streams", other);
  }
  other.sequences = options.sequences;
  if (first.neurons.used()) {
    other.sparse = false;
    add("whole feed-forwards", other);
    other.sparse = options.sparse;
  }
  if (first.reads_disk()) {
    if (auto window = better_window(planner, first, other, profile, prompt)) plans.push_back(std::move(*window));
    if (auto steps = larger_steps(planner, first, other, profile, prompt)) plans.push_back(std::move(*steps));
  } else if (options.repack) {
    other.repack = false;
    add("not interleaved", other);
  }
  planner.expect(plans);
  for (Plan& plan : plans) planner.predict(plan, profile, prompt);
  return plans;
}

Error nothing_fits(Planner& planner, const EngineOptions& options, Error refusal) {
  if (refusal.code != Code::kOutOfBudget) return refusal;
  std::string more;
  EngineOptions fewer = options;
  int low = 0, high = options.sequences;  // low fits, high does not
  while (high - low > 1) {
    fewer.sequences = low + (high - low) / 2;
    (planner.try_fit(fewer) ? low : high) = fewer.sequences;
  }
  if (low > 0) more += fmt::format("; with {} streams it fits (--streams {})", low, low);
  const std::string type = smaller_type(planner, options, [](Planner&, const Plan&) { return true; });
  if (!type.empty()) more += fmt::format("; as {} it fits", type);
  refusal.message += more;
  return refusal;
}

Error too_slow(Planner& planner, const std::vector<Plan>& plans, const EngineOptions& options,
               const MachineProfile& profile, double least) {
  const auto passes = [&](Planner& p, Plan& plan) {
    p.predict(plan, profile, 1);
    return each(plan) >= least;
  };
  const Plan& best = *std::max_element(plans.begin(), plans.end(), [](const Plan& a, const Plan& b) { return each(a) < each(b); });
  std::string message = fmt::format("no plan gives {:.3g} tok/s a stream; the nearest gives {:.3g} ({}, {} binds)", least,
                                    each(best), best.name, best.predicted.binds);
  if (best.name != "default") message += fmt::format(" with -c {} --streams {}", best.options.context, best.options.sequences);
  if (const uint64_t memory = least_memory(planner, options, options.memory, passes))
    message += fmt::format("; --memory {} would do", megabytes(memory));
  EngineOptions fewer = options;
  fewer.sequences = 1;
  if (options.sequences > 1)
    if (auto plan = planner.try_fit(fewer); plan && passes(planner, *plan)) message += "; one stream would do (--streams 1)";
  const std::string type = smaller_type(planner, options, passes);
  message += type.empty() ? "; no smaller type would do" : fmt::format("; as {} it would do", type);
  return Error{Code::kOutOfBudget, message};
}

Status check_speed(const std::string& model, const EngineOptions& options, const PlanFile* plan, double least) {
  if (plan) {
    const double rate = each(plan->plans[0]);
    if (rate >= least) return {};
    return error(Code::kOutOfBudget, "the plan gives {:.3g} tok/s a stream, less than the {:.3g} of --min-tps; venturi plan --min-tps looks for another",
                 rate, least);
  }
  const auto planner = TRY(Planner::open(model));
  std::vector<Plan> chosen;
  chosen.push_back(TRY(planner->fit(options)));
  const MachineProfile profile = TRY(profile_for({}, *planner, chosen[0]));
  planner->predict(chosen[0], profile);
  if (each(chosen[0]) >= least) return {};
  return too_slow(*planner, chosen, options, profile, least);
}

}  // namespace venturi
