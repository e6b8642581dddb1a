#include "cli/report.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "cli/flags.h"
#include "planner/probe.h"

namespace venturi {

namespace {

// Peak resident set of this process in bytes, from the kernel; 0 if it does not say.
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

}  // namespace

std::string generation_report(Engine& engine, const GenerationReport& report) {
  const int64_t position = report.prompt_tokens + report.generated_tokens / 2;
  double bytes = 0;
  for (const OpCost& cost : engine.costs(1, std::min(position, engine.options().context - 1), 1))
    bytes += static_cast<double>(cost.weight_bytes + cost.state_bytes);
  const Buffer& weights = engine.catalog().memory();
  std::string bound;
  // A model that the caches hold is not bound by memory: no share to state.
  if (weights.size() >= (128u << 20)) {
    double bandwidth = 0;
    for (int i = 0; i < 3; ++i)
      bandwidth = std::max(bandwidth, read_bandwidth(engine.context().pool(), {weights.data(), weights.size()}));
    bound = fmt::format("; {:.0f} % of the memory bound of {} ({:.1f} GB/s over {} a token)",
                        100 * report.decode_rate() * bytes / bandwidth, format_rate(bandwidth / bytes),
                        bandwidth / 1e9, format_bytes(static_cast<uint64_t>(bytes)));
  } else {
    bound = fmt::format("; {} of weights, which caches may hold: no memory bound stated", format_bytes(weights.size()));
  }
  std::string text = fmt::format("prefill {} tokens at {}, first token after {:.3f} s\n", report.prompt_tokens,
                                 format_rate(report.prefill_rate()), report.first_token_seconds);
  text += fmt::format("decode  {} tokens at {}{}\n", report.generated_tokens, format_rate(report.decode_rate()), bound);
  const uint64_t limit = engine.ledger().limit();
  text += fmt::format("memory  {} held (weights {}, state {} for {} tokens, activations {}), peak RSS {}, budget {}\n",
                      format_bytes(engine.ledger().held()), format_bytes(engine.footprint().weights),
                      format_bytes(engine.footprint().state), engine.options().context,
                      format_bytes(engine.footprint().activations), format_bytes(peak_rss()),
                      limit == Ledger::kUnlimited ? "not set" : format_bytes(limit));
  return text;
}

}  // namespace venturi
