#include "cli/expert_report.h"

#include "cli/text.h"

namespace venturi {

namespace {

// Tokens of a step follow one another in a recorded trace; simulate() wants each sequence in one run.
RoutingTrace by_sequence(const RoutingTrace& recorded, int64_t streams) {
  RoutingTrace trace = recorded;
  trace.choices.clear();
  const int64_t width = trace.n_layers * trace.top_k;
  for (int64_t s = 0; s < streams; ++s)
    for (int64_t t = s; t < recorded.n_tokens(); t += streams) {
      const auto at = recorded.choices.begin() + t * width;
      trace.choices.insert(trace.choices.end(), at, at + width);
    }
  return trace;
}

}  // namespace

double ExpertReport::bytes_per_token(uint64_t reads_of_one) const {
  if (reads() == 0 || tokens == 0) return 0;
  const auto bytes = static_cast<double>(count.demand_bytes + count.guess_bytes) / static_cast<double>(reads());
  return bytes * static_cast<double>(reads_of_one) / static_cast<double>(tokens);
}

ExpertWatch::ExpertWatch(Engine& engine) : engine_(engine), recorder_(mixture_gates(engine.catalog())) {
  engine_.experts()->forget();
  before_ = engine_.experts()->expert_counters();
  stalled_before_ = engine_.experts()->counters().stall_seconds;
  engine_.context().set_observer(&recorder_);
}

ExpertWatch::~ExpertWatch() { engine_.context().set_observer(nullptr); }

ExpertReport ExpertWatch::report(int64_t streams) const {
  const ExpertCache& cache = *engine_.experts();
  ExpertReport report{.policy = engine_.residency().expert_policy,
                      .guesses = engine_.residency().expert_guesses,
                      .slots = cache.slots(),
                      .units = cache.shape().units(),
                      .count = cache.expert_counters() - before_,
                      .stall_seconds = cache.counters().stall_seconds - stalled_before_,
                      .simulated = {}};
  const RoutingTrace trace = by_sequence(recorder_.trace(), streams);
  report.tokens = trace.n_tokens();
  const CacheSetting setting{.slots = report.slots, .streams = streams, .together = engine_.catalog().experts()[0].chosen_early};
  for (const Eviction* policy : all_evictions())
    report.simulated.push_back({std::string(policy->name), simulate(trace, setting, *policy)});
  report.simulated.push_back({"optimum", simulate_farthest(trace, setting)});
  return report;
}

nlohmann::ordered_json expert_json(const ExpertReport& r) {
  nlohmann::ordered_json j;
  j["policy"] = r.policy;
  j["guessing"] = r.guesses;
  j["slots"] = r.slots;
  j["of"] = r.units;
  j["tokens"] = r.tokens;
  j["demands"] = r.count.demands;
  j["hits"] = r.count.hits;
  j["misses"] = r.count.misses();
  j["asked_ahead"] = r.count.asked_ahead;
  j["guesses"] = r.count.guesses;
  j["guesses_used"] = r.count.guesses_used;
  j["disk_bytes"] = r.count.demand_bytes + r.count.guess_bytes;
  j["disk_bytes_per_token"] = r.bytes_per_token(r.reads());
  j["stall_seconds"] = r.stall_seconds;
  for (const auto& [name, count] : r.simulated)
    j["simulated"][name] = {{"misses", count.misses()}, {"disk_bytes_per_token", r.bytes_per_token(count.misses())}};
  return j;
}

std::string expert_table(const std::string& test, const ExpertReport& r) {
  const auto share = [](uint64_t part, uint64_t all) {
    return fmt::format("{:.1f} %", all ? 100.0 * static_cast<double>(part) / static_cast<double>(all) : 0.0);
  };
  const auto size = [&](uint64_t reads) { return format_bytes(static_cast<uint64_t>(r.bytes_per_token(reads))); };
  std::vector<std::vector<std::string>> rows = {
      {fmt::format("{} experts, {} of {} held", test, r.slots, r.units), "found", "read", "before attention", "guessed, used", "a token"}};
  rows.push_back({r.policy + ", as run", share(r.count.hits, r.count.demands), std::to_string(r.reads()), std::to_string(r.count.asked_ahead),
                  fmt::format("{}, {}", r.count.guesses, r.count.guesses_used), size(r.reads())});
  for (const auto& [name, count] : r.simulated)
    rows.push_back({name + ", counted on the same routes", share(count.hits, count.demands), std::to_string(count.misses()), "-", "-",
                    size(count.misses())});
  return markdown_table(rows);
}

}  // namespace venturi
