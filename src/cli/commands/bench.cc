// venturi bench: prefill (ppN) and decode (tgN) speed, each beside its bound on this machine,
// measured around every repetition.
#include "cli/command.h"
#include "cli/expert_report.h"
#include "cli/flags.h"
#include "cli/planning.h"
#include "cli/report.h"
#include "cli/text.h"
#include "base/clock.h"
#include "ops/route_replay.h"
#include "planner/probe.h"

#include <nlohmann/json.hpp>

namespace venturi {

namespace {

struct Options {
  ModelFlags model;
  std::string routes;
  ProfileChoice profile;
  int64_t prompt = 512, generate = 64, streams = 1;
  int repetitions = 7;
  bool json = false, markdown = false, ops = false;
};

struct Machine {  // of one repetition: mean of the probes before and after it
  double bytes, int8, f32;
};

// The time a step takes if every op reached the nearer of its bounds.
double bound_seconds(const std::vector<OpCost>& costs, const Machine& m) {
  double bytes = 0, compute = 0;
  for (const OpCost& c : costs) {
    bytes += static_cast<double>(c.weight_bytes + c.state_bytes);
    compute += static_cast<double>(c.int8_macs) / m.int8 + static_cast<double>(c.f32_macs) / m.f32;
  }
  return std::max(bytes / m.bytes, compute);
}

double op_bound_seconds(const OpTotals& t, const Machine& m) {
  return std::max(static_cast<double>(t.weight_bytes + t.state_bytes) / m.bytes,
                  static_cast<double>(t.int8_macs) / m.int8 + static_cast<double>(t.f32_macs) / m.f32);
}

double share(const OpTotals& t, const Machine& m) { return t.seconds > 0 ? op_bound_seconds(t, m) / t.seconds : 0; }

struct Outcome {
  std::string test;
  std::string phase = {};
  double tokens = 0;                                       // of a repetition
  std::vector<double> rates = {}, bounds = {}, shares = {};  // tokens a second, the same at the bounds, their ratio
  std::map<std::string_view, OpTotals> ops = {};
  std::optional<ExpertReport> experts = {};  // from the warm-up on
  Machine machine{};
  StateCounters state = {};  // of the counted repetitions
  NeuronCounters neurons{};  // of the counted repetitions
  std::string neuron_report = {};
  double op_seconds = 0;
  std::optional<Figures> predicted = {};
  Figures measured = {};
  uint64_t peak_rss_bytes = 0;
};

class Bench {
 public:
  // `process` is what was resident before the engine was opened; `profile` is null where nothing is predicted.
  Bench(Engine& engine, const Options& options, uint64_t process, const MachineProfile* profile)
      : engine_(engine), o_(options), process_(process), profile_(profile), opened_peak_(engine.ledger().peak()) {}

  Status prepare() {
    // The weights themselves are the memory whose bandwidth counts; a small model needs other, as far as
    // the budget has room for it.
    constexpr uint64_t kWanted = 128u << 20, kRounding = 4u << 20;
    const auto& weights = engine_.catalog().memory();
    memory_ = {weights.data(), weights.size()};
    const uint64_t room = engine_.ledger().available();
    const uint64_t size = room >= kWanted + kRounding ? kWanted : room > kRounding ? (room - kRounding) >> 20 << 20 : 0;
    if (memory_.size() < kWanted && size > memory_.size()) {
      const uint64_t held = engine_.ledger().held();
      spare_ = TRY(Buffer::allocate(engine_.ledger(), size, "probe"));
      spare_held_ = engine_.ledger().held() - held;
      std::memset(spare_.data(), 1, spare_.size());
      memory_ = {spare_.data(), spare_.size()};
    }
    for (int64_t i = 0; i < std::max<int64_t>(1, o_.streams); ++i) sequences_.push_back(TRY(engine_.new_sequence()));
    if (!o_.routes.empty()) {
      replay_ = TRY(RouteReplay::create(TRY(read_routing_trace(o_.routes)), mixture_gates(engine_.catalog()),
                                        experts_used(engine_.file())));
      engine_.context().set_route_source(&*replay_);
    }
    return {};
  }

  Result<Outcome> prefill() {
    if (replay_) replay_->set_streams(1);
    std::vector<TokenId> tokens(o_.prompt);
    for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = token(i);
    return repeat(fmt::format("pp{}", o_.prompt), "prefill", static_cast<double>(o_.prompt),
                  [&]() -> Status {
                    sequences_[0]->truncate(0);
                    TRY(engine_.feed(*sequences_[0], tokens, adapter(0)));
                    return {};
                  },
                  [&](const Machine& m) {
                    double seconds = 0;
                    for (int64_t at = 0; at < o_.prompt; at += engine_.options().batch) {
                      const int64_t n = std::min(engine_.options().batch, o_.prompt - at);
                      seconds += bound_seconds(engine_.costs(n, at + n - 1, at + n == o_.prompt ? 1 : 0, adapter(0)), m);
                    }
                    return seconds;
                  },
                  [&](const CostInputs& in) { return forecast_prefill(in, o_.prompt, engine_.options().batch); });
  }

  Result<Outcome> decode() {
    const int64_t streams = std::max<int64_t>(1, o_.streams);
    if (replay_) replay_->set_streams(streams);
    const std::string name = streams == 1 ? fmt::format("tg{}", o_.generate) : fmt::format("tg{}x{}", o_.generate, streams);
    std::optional<ExpertWatch> watch;
    if (engine_.experts()) watch.emplace(engine_);
    Outcome out = TRY(repeat(name, "decode", static_cast<double>(o_.generate * streams),
                  [&]() -> Status {
                    for (auto& s : sequences_) s->truncate(0);
                    for (int64_t i = 0; i < o_.generate; ++i) {
                      Step step;
                      for (int64_t s = 0; s < streams; ++s) {
                        step.tokens.push_back(token(begin_ + i * streams + s));
                        step.spans.push_back({.row_begin = s, .n_rows = 1, .position = i, .state = sequences_[s].get(), .adapter = adapter(s)});
                        step.output_rows.push_back(s);
                      }
                      TRY(engine_.step(step));
                    }
                    begin_ += o_.generate * streams;
                    return {};
                  },
                  [&](const Machine& m) {
                    double seconds = 0;
                    for (int64_t i = 0; i < o_.generate; ++i)
                      seconds += bound_seconds(batch_costs(streams, i), m);
                    return seconds;
                  },
                  [&](const CostInputs& in) {  // seconds grow evenly with the position
                    return forecast_decode(in, streams, o_.generate / 2) * static_cast<double>(o_.generate);
                  }));
    if (watch) out.experts = watch->report(streams);
    return out;
  }

 private:
  TokenId token(int64_t i) const { return static_cast<TokenId>((i * 7919 + 3) % engine_.info().vocab_size); }

  const Adapter* adapter(int64_t stream) const {
    const auto& all = engine_.adapters().all();
    return all.empty() ? nullptr : all[static_cast<size_t>(stream) % all.size()].get();
  }

  // Weights are read once for all streams, adapters once for all that have the same; state and operations count
  // for each.
  std::vector<OpCost> batch_costs(int64_t streams, int64_t position) const {
    auto costs = engine_.costs(1, position, 1, adapter(0));
    const auto adapters = std::min<int64_t>(streams, static_cast<int64_t>(engine_.adapters().all().size()));
    for (OpCost& c : costs) {
      if (c.op == "adapters") c.weight_bytes *= static_cast<uint64_t>(adapters);
      c.state_bytes *= streams;
      c.int8_macs *= streams;
      c.f32_macs *= streams;
    }
    return costs;
  }

  // While the machine was probed the window of streamed weights filled: after a token it is as it is between steps, and what
  // is read in a repetition is what it takes.
  Status settle() {
    if (!engine_.residency().streams() || engine_.experts() || engine_.neurons()) return {};
    sequences_[0]->truncate(0);
    const TokenId one = token(0);
    TRY(engine_.feed(*sequences_[0], {&one, 1}, adapter(0)));
    return {};
  }

  uint64_t bytes_read() const { return engine_.disk_counters().disk_bytes + engine_.state_counters().read_bytes; }

  Machine probe() {
    ThreadPool& pool = engine_.context().pool();
    return {read_bandwidth(pool, memory_), int8_peak(pool), f32_peak(pool)};
  }

  Result<Outcome> repeat(const std::string& name, const std::string& phase, double tokens, const std::function<Status()>& work,
                         const std::function<double(const Machine&)>& bound,
                         const std::function<StepForecast(const CostInputs&)>& forecast) {
    Outcome out;
    out.test = name;
    out.phase = phase;
    out.tokens = tokens;
    if (profile_) out.predicted = predict(forecast, tokens);
    TRY(work());  // warm-up: pages touched, threads awake
    Machine before = probe();
    const NeuronCounters neurons = engine_.neurons() ? engine_.neurons()->counters() : NeuronCounters();
    const StateCounters state = engine_.state_counters();
    uint64_t disk_bytes = 0;
    for (int r = 0; r < o_.repetitions; ++r) {
      TRY(settle());
      const uint64_t read = bytes_read();
      const double begin = now_seconds();
      TRY(work());
      const double seconds = now_seconds() - begin;
      disk_bytes += bytes_read() - read;
      const Machine after = probe();
      const Machine mean{(before.bytes + after.bytes) / 2, (before.int8 + after.int8) / 2, (before.f32 + after.f32) / 2};
      out.rates.push_back(tokens / seconds);
      out.bounds.push_back(tokens / bound(mean));
      out.shares.push_back(out.rates.back() / out.bounds.back());
      out.machine = mean;
      before = after;
    }
    out.state = engine_.state_counters() - state;
    if (engine_.neurons()) {
      out.neurons = engine_.neurons()->counters() - neurons;
      out.neuron_report = neuron_report(engine_, neurons);
    }
    out.measured = {.tokens_per_second = spread_of(out.rates).median,
                    .peak_memory_bytes = std::max(opened_peak_, engine_.ledger().peak() - spare_held_) + process_,
                    .disk_bytes_per_token = static_cast<double>(disk_bytes) / (tokens * o_.repetitions)};
    out.peak_rss_bytes = peak_rss();
    if (o_.ops) {
      Context& context = engine_.context();
      context.reset_profile();
      context.set_profiling(true);
      const double begin = now_seconds();
      TRY(work());
      out.op_seconds = now_seconds() - begin;
      context.set_profiling(false);
      out.ops = context.totals();
    }
    return out;
  }

  Figures predict(const std::function<StepForecast(const CostInputs&)>& forecast, double tokens) const {
    const EngineOptions& o = engine_.options();
    const double found = replay_ ? experts_found(replay_->trace(), engine_.catalog(), engine_.residency(), std::max<int64_t>(1, o_.streams)) : -1;
    const StepForecast f = forecast({engine_.model(), engine_.catalog(), engine_.residency(), *profile_, o.threads, o.repack,
                                     &engine_.state_pool().plan(), &engine_.neuron_plan(), kActiveNeurons, found});
    return {.tokens_per_second = tokens / f.seconds,
            .peak_memory_bytes = engine_.footprint().peak() + process_,
            .disk_bytes_per_token = f.disk_bytes / tokens};
  }

  Engine& engine_;
  const Options& o_;
  const uint64_t process_;
  const MachineProfile* const profile_;
  const uint64_t opened_peak_;
  std::span<const uint8_t> memory_;
  Buffer spare_;
  uint64_t spare_held_ = 0;
  std::vector<std::unique_ptr<SequenceState>> sequences_;
  int64_t begin_ = 0;  // of the tokens of the next repetition: a mixture's cache must not find what it has just had
  std::optional<RouteReplay> replay_;  // goes on from repetition to repetition: no token comes twice soon
};

Json figures_json(const Figures& f) {
  return {{"tokens_per_second", f.tokens_per_second},
          {"peak_memory_bytes", f.peak_memory_bytes},
          {"disk_bytes_per_token", f.disk_bytes_per_token}};
}

nlohmann::ordered_json outcome_json(const Outcome& out) {
  const Spread rate = spread_of(out.rates);
  nlohmann::ordered_json j;
  j["test"] = out.test;
  j["phase"] = out.phase;
  j["tokens_per_second"] = rate.median;
  j["tokens_per_second_low"] = rate.low;
  j["tokens_per_second_high"] = rate.high;
  j["repetitions"] = out.rates.size();
  j["bound_tokens_per_second"] = spread_of(out.bounds).median;
  j["share_of_bound"] = spread_of(out.shares).median;
  j["seconds"] = out.tokens / rate.median;
  // The idealised runtime: what the machine could do at its bounds.
  j["bound_seconds"] = out.tokens / spread_of(out.bounds).median;
  j["machine"] = {{"read_bytes_per_second", out.machine.bytes}, {"int8_macs_per_second", out.machine.int8},
                  {"f32_macs_per_second", out.machine.f32}, {"instruction_set", std::string(isa_name(chosen_isa()))}};
  if (out.experts) j["experts"] = expert_json(*out.experts);
  if (const NeuronCounters& c = out.neurons; c.asked > 0) {
    const auto share = [](uint64_t part, uint64_t whole) { return static_cast<double>(part) / static_cast<double>(std::max<uint64_t>(whole, 1)); };
    j["neurons"] = {{"active", share(c.active, c.asked)}, {"read", share(c.newcomer_bytes, c.bundle_bytes)},
                    {"in_memory", share(c.used - c.newcomers, c.used)}, {"newcomer_bytes", c.newcomer_bytes},
                    {"disk_bytes", c.disk_bytes}, {"requests", c.requests}, {"rows", c.rows}, {"stall_seconds", c.stall_seconds}};
  }
  if (out.state.read_bytes + out.state.written_bytes > 0)
    j["state"] = {{"read_bytes", out.state.read_bytes}, {"written_bytes", out.state.written_bytes},
                  {"stalls", out.state.stalls}, {"stall_seconds", out.state.stall_seconds}};
  if (out.predicted) {
    j["predicted"] = figures_json(*out.predicted);
    j["measured"] = figures_json(out.measured);
    j["measured"]["peak_rss_bytes"] = out.peak_rss_bytes;
  }
  for (const auto& [op, t] : out.ops) {
    j["ops"][std::string(op)] = {{"calls", t.calls}, {"seconds", t.seconds},
                                 {"share_of_time", t.seconds / out.op_seconds},
                                 {"bound_seconds", op_bound_seconds(t, out.machine)},
                                 {"share_of_bound", share(t, out.machine)},
                                 {"weight_bytes", t.weight_bytes}, {"state_bytes", t.state_bytes},
                                 {"int8_macs", t.int8_macs}, {"f32_macs", t.f32_macs}};
  }
  return j;
}

std::string milliseconds(double seconds) { return fmt::format("{:.2f}", seconds * 1e3); }

std::string tests_table(const std::vector<Outcome>& outcomes) {
  std::vector<std::vector<std::string>> rows = {{"test", "tok/s", "low", "high", "bound tok/s", "share of bound", "ms",
                                                 "idealised ms"}};
  for (const Outcome& out : outcomes) {
    const Spread rate = spread_of(out.rates);
    const double bound = spread_of(out.bounds).median;
    rows.push_back({out.test, fmt::format("{:.2f}", rate.median), fmt::format("{:.2f}", rate.low),
                    fmt::format("{:.2f}", rate.high), fmt::format("{:.2f}", bound),
                    fmt::format("{:.1f} %", 100 * spread_of(out.shares).median), milliseconds(out.tokens / rate.median),
                    milliseconds(out.tokens / bound)});
  }
  return markdown_table(rows);
}

std::string ops_table(const Outcome& out) {
  std::vector<std::vector<std::string>> rows = {{out.test + " op", "calls", "ms", "share of time", "idealised ms",
                                                 "share of bound"}};
  for (const auto& [op, t] : out.ops) {
    const double bound = op_bound_seconds(t, out.machine);
    rows.push_back({std::string(op), std::to_string(t.calls), milliseconds(t.seconds),
                    fmt::format("{:.1f} %", 100 * t.seconds / out.op_seconds), milliseconds(bound),
                    bound > 0 ? fmt::format("{:.0f} %", 100 * share(t, out.machine)) : "-"});
  }
  return markdown_table(rows);
}

// The machine as it is now, before the engine takes its memory: what a budget's predictions are made from.
Result<std::optional<MachineProfile>> profile_before(const Options& o) {
  std::optional<MachineProfile> none;
  if (auto plan = TRY(o.model.load_plan())) return std::optional(std::move(plan->profile));
  if (o.model.memory.empty() && o.profile.file.empty()) return none;
  const auto planner = TRY(Planner::open(TRY(o.model.path())));
  const Plan plan = TRY(planner->fit(TRY(o.model.engine_options(1, static_cast<int>(o.streams)))));
  return std::optional(TRY(profile_for({.file = o.profile.file, .probe = o.profile.file.empty()}, *planner, plan)));
}

Status run(const Options& o) {
  Options options = o;
  if (options.model.context == 0) options.model.context = std::max<int64_t>({o.prompt, o.generate, 1});
  const auto profile = TRY(profile_before(options));
  reset_peak_rss();
  const uint64_t process = process_bytes();
  auto engine = TRY(options.model.open(1, static_cast<int>(o.streams)));
  if (engine->info().embeds) options.generate = 0;  // nothing to decode
  if (const int64_t most = std::max(options.prompt, options.generate); most > engine->options().context)
    return error(Code::kInvalidArgument, "a test of {} tokens does not fit the context of {}; give -c {} or more", most,
                 engine->options().context, most);
  Bench bench(*engine, options, process, profile ? &*profile : nullptr);
  if (auto status = bench.prepare(); !status) return status;
  std::vector<Outcome> outcomes;
  if (options.prompt > 0) outcomes.push_back(TRY(bench.prefill()));
  if (options.generate > 0) outcomes.push_back(TRY(bench.decode()));
  if (o.json) {
    nlohmann::ordered_json list = nlohmann::json::array();
    for (const Outcome& out : outcomes) list.push_back(outcome_json(out));
    print_out(list.dump(1) + "\n");
    return {};
  }
  std::string text = tests_table(outcomes);
  if (std::any_of(outcomes.begin(), outcomes.end(), [](const Outcome& out) { return spread_of(out.shares).median > 1; }))
    text += "\nMore than 100 %: the CPU's caches hold part of the weights, or products come faster than in the probe's chains.\n";
  for (const Outcome& out : outcomes)
    if (!out.neuron_report.empty()) text += "\n" + out.test + " " + out.neuron_report;
  for (const Outcome& out : outcomes)
    if (out.state.read_bytes + out.state.written_bytes > 0)
      text += fmt::format("\n{} state: {} written to disk, {} read back, {:.3f} s waited for\n", out.test,
                          format_bytes(out.state.written_bytes), format_bytes(out.state.read_bytes), out.state.stall_seconds);
  if (profile && !outcomes.empty()) {
    std::vector<std::vector<std::string>> rows = {{"test", "tok/s", "predicted", "peak memory", "predicted", "disk a token", "predicted"}};
    for (const Outcome& out : outcomes)
      rows.push_back({out.test, fmt::format("{:.2f}", out.measured.tokens_per_second),
                      fmt::format("{:.2f}", out.predicted->tokens_per_second), format_bytes(out.measured.peak_memory_bytes),
                      format_bytes(out.predicted->peak_memory_bytes),
                      format_bytes(static_cast<uint64_t>(out.measured.disk_bytes_per_token)),
                      format_bytes(static_cast<uint64_t>(out.predicted->disk_bytes_per_token))});
    text += "\n" + markdown_table(rows);
  }
  for (const Outcome& out : outcomes) {
    if (out.experts) text += "\n" + expert_table(out.test, *out.experts);
    if (!out.ops.empty()) text += "\n" + ops_table(out);
  }
  print_out(text);
  return {};
}

}  // namespace

extern const Command command_bench;
const Command command_bench{"bench", "Measure prefill and decode speed beside this machine's bounds",
                            [](CLI::App& app) -> std::function<Status()> {
  auto o = std::make_shared<Options>();
  o->model.add(app);
  o->model.add_state(app);
  o->model.add_adapters(app, "decode with this adapter; given several times, the streams take them in turn");
  o->model.add_plan(app);
  app.add_option("--profile", o->profile.file,
                 "predict from this profile (default: with --memory the machine is measured first, with --plan the plan's)")
      ->excludes(app.get_option("--plan"));
  app.add_option("-p,--n-prompt", o->prompt, "tokens of the prefill test; 0: leave it out")->check(CLI::Range(0, 1 << 20))->capture_default_str();
  app.add_option("-n,--n-gen", o->generate, "tokens of the decode test; 0: leave it out")->check(CLI::Range(0, 1 << 20))->capture_default_str();
  app.add_option("-r,--repetitions", o->repetitions, "counted repetitions")->check(CLI::Range(1, 1000))->capture_default_str();
  app.add_option("--streams", o->streams, "sequences decoded together")->check(CLI::Range(1, 4096))->capture_default_str();
  auto* json = app.add_flag("--json", o->json, "JSON");
  app.add_flag("--md", o->markdown, "Markdown tables (what comes without --json, too)")->excludes(json);
  app.add_option("--routes", o->routes,
                 "a mixture routes by this trace, not by its routers: for random weights, which route without locality");
  app.add_flag("--ops", o->ops, "time per operator, each with its share of its bound");
  return [o] { return run(*o); };
}};

}  // namespace venturi
