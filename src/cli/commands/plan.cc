// venturi plan: what would lie where, and how fast it would be, before anything is loaded.
#include "cli/command.h"
#include "cli/flags.h"
#include "cli/plan_report.h"
#include "cli/planning.h"
#include "cli/text.h"

#include <algorithm>
#include <charconv>

namespace venturi {

namespace {

struct Options {
  ModelFlags model;
  ProfileChoice profile;
  std::string sweep, csv, svg, routes;
  int64_t streams = 1, prompt = 512;
  double min_tps = 0, active = kActiveNeurons;
  bool json = false, weights = false;
};

struct Sweep {
  uint64_t low = 0, high = 0;
  int points = 15;
};

// "memory=1G:8G" or "memory=1G:8G:20"
Result<Sweep> parse_sweep(std::string_view text) {
  const auto wrong = [&] {
    return error(Code::kInvalidArgument, "--sweep {}: expected memory=LOW:HIGH or memory=LOW:HIGH:POINTS, as memory=1G:8G", text);
  };
  constexpr std::string_view kName = "memory=";
  if (!text.starts_with(kName)) return wrong();
  const std::string_view rest = text.substr(kName.size());
  const size_t first = rest.find(':');
  if (first == std::string_view::npos) return wrong();
  const size_t second = rest.find(':', first + 1);
  Sweep sweep;
  sweep.low = TRY(parse_bytes(rest.substr(0, first)));
  sweep.high = TRY(parse_bytes(rest.substr(first + 1, second == std::string_view::npos ? second : second - first - 1)));
  if (second != std::string_view::npos) {
    const std::string_view count = rest.substr(second + 1);
    const auto [end, failure] = std::from_chars(count.data(), count.data() + count.size(), sweep.points);
    if (failure != std::errc() || end != count.data() + count.size()) return wrong();
  }
  if (sweep.low == 0 || sweep.low >= sweep.high || sweep.points < 2 || sweep.points > 1000) return wrong();
  return sweep;
}

Status write_text(const std::string& path, const std::string& text) {
  AtomicFile file = TRY(AtomicFile::create(path));
  TRY(file.append(text));
  return file.commit();
}

bool fast_enough(const Plan& plan, const Options& o) {
  return plan.predicted.tokens_per_second / plan.options.sequences >= o.min_tps;
}

// The disk must be known where any point streams: the smallest is what is measured.
Status run_sweep(const Options& o, Planner& planner, EngineOptions options) {
  const Sweep sweep = TRY(parse_sweep(o.sweep));
  std::vector<SweepPoint> points;
  std::optional<MachineProfile> profile;
  for (int i = 0; i < sweep.points; ++i) {
    SweepPoint point{.memory = sweep.low + (sweep.high - sweep.low) / static_cast<uint64_t>(sweep.points - 1) * static_cast<uint64_t>(i),
                     .plan = {}};
    if (i == sweep.points - 1) point.memory = sweep.high;
    options.memory = point.memory;
    auto plan = planner.try_fit(options);
    if (!plan && plan.error().code != Code::kOutOfBudget) return std::move(plan).error();
    if (plan) {
      if (!profile) profile = TRY(profile_for(o.profile, planner, *plan));
      point.plan = std::move(*plan);
    }
    points.push_back(std::move(point));
  }
  std::vector<Plan> fitted;
  for (const SweepPoint& point : points)
    if (point.plan) fitted.push_back(*point.plan);
  planner.expect(fitted);
  for (SweepPoint& point : points)
    if (point.plan) planner.predict(*point.plan, *profile, o.prompt);
  if (!profile) {
    options.memory = sweep.high;
    auto plan = planner.fit(options);
    return nothing_fits(planner, options, std::move(plan).error());
  }
  if (o.min_tps > 0) {
    // Of these the plans are wanted that are fast enough; the table, the drawing and the CSV show all.
    std::vector<Plan> slow;
    for (const SweepPoint& point : points)
      if (point.plan && !fast_enough(*point.plan, o)) slow.push_back(*point.plan);
    if (std::none_of(points.begin(), points.end(), [&](const SweepPoint& point) { return point.plan && fast_enough(*point.plan, o); })) {
      options.memory = sweep.high;
      return too_slow(planner, slow, options, *profile, o.min_tps);
    }
  }
  if (!o.csv.empty()) TRY(write_text(o.csv, sweep_csv(points)));
  if (!o.svg.empty())
    TRY(write_text(o.svg, sweep_svg(points, fmt::format("{}: tokens a second, predicted, by memory", planner.file().path))));
  if (!o.json) {
    std::string text = sweep_table(points);
    const auto least = std::find_if(points.begin(), points.end(), [&](const SweepPoint& point) { return point.plan && fast_enough(*point.plan, o); });
    if (o.min_tps > 0) text += fmt::format("\nof these, {} is the least memory with {} a stream\n", format_bytes(least->memory), format_rate(o.min_tps));
    print_out(text);
    return {};
  }
  PlanFile file{.model = planner.file().path, .model_bytes = tensor_bytes(planner.file()),
                .fingerprint = model_fingerprint(planner.file()), .profile = *profile, .plans = {}};
  for (const SweepPoint& point : points)
    if (point.plan && file.assumptions.empty())
      file.assumptions = assumptions(*profile, planner.file(), point.plan->options.threads, point.plan->reads_disk());
  for (SweepPoint& point : points) {
    if (!point.plan || !fast_enough(*point.plan, o)) continue;
    point.plan->name = fmt::format("memory {}", format_bytes(point.memory));
    file.plans.push_back(std::move(*point.plan));
  }
  print_out(plan_file_json(file).dump(1) + "\n");
  return {};
}

Status run(const Options& o) {
  const EngineOptions options = TRY(o.model.engine_options(1, static_cast<int>(o.streams)));
  const auto planner = TRY(Planner::open(TRY(o.model.path())));
  planner->assume_active(o.active);
  if (!o.routes.empty()) TRY(planner->assume_routes(TRY(read_routing_trace(o.routes))));
  if (!o.sweep.empty()) return run_sweep(o, *planner, options);
  auto fitted = planner->fit(options);
  if (!fitted) return nothing_fits(*planner, options, std::move(fitted).error());
  o.model.tell_unused(planner->catalog(), fitted->residency, fitted->neurons);
  PlanFile file;
  file.model = planner->file().path;
  file.model_bytes = tensor_bytes(planner->file());
  file.fingerprint = model_fingerprint(planner->file());
  file.profile = TRY(profile_for(o.profile, *planner, *fitted));
  file.assumptions = assumptions(file.profile, planner->file(), fitted->options.threads, fitted->reads_disk());
  file.plans = plans_around(*planner, std::move(*fitted), options, file.profile, o.prompt);
  if (o.min_tps > 0) {
    // Fewer streams or tokens of context than were asked for are no answer.
    std::vector<Plan> all = file.plans;
    std::erase_if(file.plans, [&](const Plan& p) { return !fast_enough(p, o) || p.options.sequences < o.streams || p.options.context < options.context; });
    if (file.plans.empty()) return too_slow(*planner, all, options, file.profile, o.min_tps);
  }
  print_out(o.json ? plan_file_json(file).dump(1) + "\n" : plan_report(file, o.weights));
  return {};
}

}  // namespace

extern const Command command_plan;
const Command command_plan{"plan", "Predict speed, memory and disk reads of a model on this machine, before anything is loaded",
                           [](CLI::App& app) -> std::function<Status()> {
  auto o = std::make_shared<Options>();
  o->model.add(app);
  o->model.add_state(app);
  o->model.add_adapters(app, "room for this adapter, too (the plan is run with the same --lora); may come several times");
  app.add_option("--streams", o->streams, "sequences decoded together")->check(CLI::Range(1, 4096))->capture_default_str();
  app.add_option("-p,--prompt", o->prompt, "tokens of the prompt whose first token is timed")
      ->check(CLI::Range(1, 1 << 20))->transform(kTokenCount)->capture_default_str();
  app.add_option("--min-tps", o->min_tps, "tokens a second that each stream must reach")->check(CLI::NonNegativeNumber);
  app.add_option("--active", o->active, "of the neurons that a sidecar holds, the share that a token needs; headers do not say")
      ->check(CLI::Range(0.0, 1.0))->capture_default_str();
  app.add_option("--routes", o->routes, "a trace of how the mixture routes (inspect --routing --save-routes); headers do not say");
  auto* file = app.add_option("--profile", o->profile.file, "the machine's profile (default: what venturi probe stored)");
  app.add_flag("--probe", o->profile.probe, "measure the machine anew, as this model would use it (a few seconds)")->excludes(file);
  auto* sweep = app.add_option("--sweep", o->sweep, "memory=LOW:HIGH[:POINTS]: a plan for each of these budgets");
  sweep->excludes(app.get_option("--memory"));
  app.add_option("--csv", o->csv, "write the sweep as CSV")->needs(sweep);
  app.add_option("--svg", o->svg, "draw tokens a second over memory")->needs(sweep);
  app.add_flag("--weights", o->weights, "every weight, not only families");
  app.add_flag("--json", o->json, "JSON: what --plan reads");
  return [o] { return run(*o); };
}};

}  // namespace venturi
