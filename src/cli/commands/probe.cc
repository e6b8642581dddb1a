// venturi probe: what the machine can do.
#include "cli/command.h"
#include "cli/flags.h"
#include "cli/text.h"
#include "planner/probe.h"

#include <nlohmann/json.hpp>

namespace venturi {

namespace {

struct Options {
  int threads = 0, repetitions = 7;
  bool json = false;
};

nlohmann::json spread_json(const Spread& s) { return {{"median", s.median}, {"low", s.low}, {"high", s.high}}; }

Status run(const Options& o) {
  ThreadPool pool(o.threads > 0 ? o.threads : default_thread_count());
  const auto ledger = Ledger::create();
  const MachineProfile p = TRY(probe_machine(*ledger, pool, o.repetitions));
  if (o.json) {
    nlohmann::ordered_json json;
    json["threads"] = p.threads;
    json["instruction_set"] = std::string(isa_name(chosen_isa()));
    json["read_bytes_per_second"] = spread_json(p.read_bytes_per_second);
    json["int8_macs_per_second"] = spread_json(p.int8_macs_per_second);
    json["f32_macs_per_second"] = spread_json(p.f32_macs_per_second);
    print_out(json.dump(1) + "\n");
    return {};
  }
  const auto row = [](const char* what, const Spread& s, const char* unit) -> std::vector<std::string> {
    return {what, fmt::format("{:.1f} {}", s.median / 1e9, unit), fmt::format("{:.1f}", s.low / 1e9),
            fmt::format("{:.1f}", s.high / 1e9), fmt::format("{:.0f} %", 100 * (s.high - s.low) / s.median)};
  };
  print_out(fmt::format("{} threads, {}\n", p.threads, isa_name(chosen_isa())) +
            markdown_table({{"", "median", "low", "high", "spread"},
                            row("memory read", p.read_bytes_per_second, "GB/s"),
                            row("int8 peak", p.int8_macs_per_second, "Gmac/s"),
                            row("f32 peak", p.f32_macs_per_second, "Gmac/s")}));
  return {};
}

}  // namespace

extern const Command command_probe;
const Command command_probe{"probe", "Measure memory bandwidth and arithmetic peaks of this machine",
                            [](CLI::App& app) -> std::function<Status()> {
  auto o = std::make_shared<Options>();
  app.add_option("-t,--threads", o->threads, "threads")->check(CLI::Range(1, 1024));
  app.add_option("-r,--repetitions", o->repetitions, "repetitions")->check(CLI::Range(1, 1000))->capture_default_str();
  app.add_flag("--json", o->json, "JSON");
  return [o] { return run(*o); };
}};

}  // namespace venturi
