#include "cli/report.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <span>

#include "cli/flags.h"
#include "cli/prediction.h"
#include "planner/probe.h"

namespace venturi {

namespace {

// Bytes a second read from memory: over the weights if they are far larger than the caches, else
// over as much as the budget still gives, up to 128 MB. 0 if that is too little to tell anything.
double memory_bandwidth(Engine& engine) {
  constexpr uint64_t kWanted = 128u << 20, kLeast = 32u << 20;
  const Buffer& weights = engine.catalog().memory();
  std::span<const uint8_t> memory{weights.data(), weights.size()};
  Buffer spare;
  if (memory.size() < kWanted) {
    const uint64_t room = engine.ledger().available();
    // Room for the rounding to whole huge pages.
    const uint64_t size = room < kWanted + (4u << 20) ? (room > (4u << 20) ? (room - (4u << 20)) >> 20 << 20 : 0) : kWanted;
    if (size < kLeast) return 0;
    auto buffer = Buffer::allocate(engine.ledger(), size, "probe");
    if (!buffer) return 0;
    spare = std::move(buffer).value();
    std::memset(spare.data(), 1, spare.size());
    memory = {spare.data(), spare.size()};
  }
  double best = 0;
  for (int i = 0; i < 3; ++i) best = std::max(best, read_bandwidth(engine.context().pool(), memory));
  return best;
}

}  // namespace

uint64_t peak_rss() {
  uint64_t kilobytes = 0;
  if (FILE* f = std::fopen("/proc/self/status", "r")) {
    char line[256];
    while (std::fgets(line, sizeof line, f))
      if (std::sscanf(line, "VmHWM: %lu kB", &kilobytes) == 1) break;
    std::fclose(f);
  }
  return kilobytes * 1024;
}

void reset_peak_rss() {
  if (FILE* f = std::fopen("/proc/self/clear_refs", "w")) {
    std::fputs("5", f);
    std::fclose(f);
  }
}

std::string generation_report(Engine& engine, const GenerationReport& report, const PlanFile* plan) {
  std::string beside;
  if (plan)
    beside = prediction_report(engine, *plan,
                               {.prompts = {{0, report.prompt_tokens}},
                                .prompt_seconds = report.prefill_seconds,
                                .first_token_seconds = report.first_token_seconds,
                                .steps = (report.prompt_tokens - 1) / engine.options().batch + report.generated_tokens,
                                .tokens = report.generated_tokens - 1,
                                .position = report.prompt_tokens + report.generated_tokens / 2,
                                .seconds = report.decode_seconds});
  const int64_t position = report.prompt_tokens + report.generated_tokens / 2;
  double bytes = 0;
  for (const OpCost& cost : engine.costs(1, std::min(position, engine.options().context - 1), 1, engine.only_adapter()))
    bytes += static_cast<double>(cost.weight_bytes + cost.state_bytes);
  const uint64_t held = engine.ledger().held(), rss = peak_rss();
  const double bandwidth = memory_bandwidth(engine);
  std::string bound = "; memory bound not measured: the budget leaves no room to";
  if (bandwidth > 0)
    bound = fmt::format("; {:.0f} % of the memory bound of {} ({:.1f} GB/s over {} a token{})",
                        100 * report.decode_rate() * bytes / bandwidth, format_rate(bandwidth / bytes),
                        bandwidth / 1e9, format_bytes(static_cast<uint64_t>(bytes)),
                        report.decode_rate() * bytes > bandwidth ? "; the CPU's caches hold part of it" : "");
  std::string text = fmt::format("prefill {} token{} at {}, first token after {:.3f} s\n", report.prompt_tokens,
                                 report.prompt_tokens == 1 ? "" : "s",
                                 format_rate(report.prefill_rate()), report.first_token_seconds);
  // The first comes with the prompt.
  text += report.generated_tokens > 1
              ? fmt::format("decode  {} tokens at {}{}\n", report.generated_tokens, format_rate(report.decode_rate()), bound)
              : "decode  one token: no rate\n";
  if (report.guessed_tokens > 0)
    text += fmt::format("guesses {} checked, {:.0f} % held\n", report.guessed_tokens,
                        100.0 * static_cast<double>(report.held_tokens) / static_cast<double>(report.guessed_tokens));
  const uint64_t limit = engine.ledger().limit();
  text += fmt::format("memory  {} held (weights {}{}, state {} for {} tokens, activations {}), peak RSS {}, budget {}\n",
                      format_bytes(held), format_bytes(engine.footprint().weights),
                      engine.adapters().empty() ? "" : ", adapters " + format_bytes(engine.footprint().adapters),
                      format_bytes(engine.footprint().state), engine.options().context,
                      format_bytes(engine.footprint().activations), format_bytes(rss),
                      limit == Ledger::kUnlimited ? "not set" : format_bytes(limit));
  if (engine.footprint().state_file > 0) {
    const StateCounters c = engine.state_counters();
    text += fmt::format("state   {} written to disk, {} read back, {:.3f} s waited for\n", format_bytes(c.written_bytes),
                        format_bytes(c.read_bytes), c.stall_seconds);
  }
  return text + neuron_report(engine) + beside;
}

std::string neuron_report(const Engine& engine, const NeuronCounters& before) {
  if (!engine.neurons()) return "";
  const NeuronCounters c = engine.neurons()->counters() - before;
  if (c.asked == 0) return "";
  const auto share = [](uint64_t part, uint64_t whole) { return 100 * static_cast<double>(part) / static_cast<double>(std::max<uint64_t>(whole, 1)); };
  const uint64_t tokens = std::max<uint64_t>(1, c.rows / engine.neurons()->n_layers());
  return fmt::format("sparse feed-forward: {:.1f} % of neurons active, {:.1f} % read per token ({}, {} with their blocks); of those "
                     "needed {:.1f} % were in memory; exact\n",
                     share(c.active, c.asked), share(c.newcomer_bytes, c.bundle_bytes), format_bytes(c.newcomer_bytes / tokens),
                     format_bytes(c.disk_bytes / tokens), share(c.used - c.newcomers, c.used));
}

}  // namespace venturi
