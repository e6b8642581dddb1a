#include "cli/routing_report.h"

#include <nlohmann/json.hpp>

#include "analysis/routing.h"
#include "base/ledger.h"
#include "cli/text.h"

namespace venturi {

namespace {

constexpr int64_t kWindows[] = {4, 16, 64, 256};

struct Report {
  std::vector<SegmentScore> all;
  std::vector<SegmentScore> by_layer;  // of kSegmentWindow
  std::vector<CacheRow> rows;
  CacheAdvice advice;
};

Report measure(const RoutingTrace& trace) {
  Report r;
  for (const int64_t window : kWindows)
    if (const auto score = segment_routing(trace, window)) r.all.push_back(*score);
  for (int64_t layer = 0; layer < trace.n_layers; ++layer)
    if (const auto score = segment_routing(trace, kSegmentWindow, layer)) r.by_layer.push_back(*score);
  // Half a token's experts more each time, until all fit.
  const double most = static_cast<double>(trace.n_experts) / static_cast<double>(trace.top_k);
  std::vector<double> rhos;
  for (double rho = 1; rho < most && rho <= 4; rho += 0.5) rhos.push_back(rho);
  for (double rho = 6; rho < most; rho *= 1.5) rhos.push_back(rho);
  rhos.push_back(most);
  r.rows = cache_rows(trace, rhos);
  r.advice = advise(r.rows);
  return r;
}

nlohmann::ordered_json count_json(const CacheCount& count) {
  return {{"hit_rate", count.hit_rate()}, {"warm_hit_rate", count.warm_hit_rate()}, {"demands", count.demands},
          {"misses", count.misses()},     {"cold_misses", count.cold}};
}

nlohmann::ordered_json score_json(const SegmentScore& score) {
  return {{"window", score.window}, {"srp", score.srp}, {"rho", score.rho}, {"threshold", score.threshold}};
}

std::string json_text(const RoutingTrace& trace, uint64_t expert_bytes, const Report& r) {
  nlohmann::ordered_json j;
  j["tokens"] = trace.n_tokens();
  j["layers"] = trace.n_layers;
  j["experts"] = trace.n_experts;
  j["experts_used"] = trace.top_k;
  j["expert_bytes"] = expert_bytes;
  j["segment_routing"] = nlohmann::json::array();
  for (const SegmentScore& score : r.all) j["segment_routing"].push_back(score_json(score));
  j["segment_routing_by_layer"] = nlohmann::json::array();
  for (const SegmentScore& score : r.by_layer) j["segment_routing_by_layer"].push_back(score_json(score));
  j["caches"] = nlohmann::json::array();
  for (const CacheRow& row : r.rows) {
    nlohmann::ordered_json cache = {{"rho", row.rho}, {"slots", row.slots}, {"bytes", static_cast<uint64_t>(row.slots) * expert_bytes}};
    cache["uniform_lru_hit_rate"] = static_cast<double>(row.slots) / static_cast<double>(trace.n_layers * trace.n_experts);
    for (const auto& entry : row.entries) {
      cache["per_layer"][std::string(entry.policy)] = count_json(entry.per_layer);
      cache["pooled"][std::string(entry.policy)] = count_json(entry.pooled);
    }
    j["caches"].push_back(std::move(cache));
  }
  j["advice"] = {{"rho", r.advice.rho}, {"slots", r.advice.slots},
                 {"bytes", static_cast<uint64_t>(r.advice.slots) * expert_bytes},
                 {"policy", std::string(r.advice.policy)}, {"hit_rate", r.advice.hit_rate}};
  return j.dump(1) + "\n";
}

std::string cache_table(const RoutingTrace& trace, const Report& r, bool pooled) {
  std::vector<std::string> head = {"rho", "experts held", "uniform"};
  for (const auto& entry : r.rows[0].entries) head.emplace_back(entry.policy);
  head.emplace_back("cold misses");
  std::vector<std::vector<std::string>> rows = {head};
  for (const CacheRow& row : r.rows) {
    std::vector<std::string> cells = {
        fmt::format("{:.3g}", row.rho), std::to_string(row.slots),
        fmt::format("{:.1f} %", 100.0 * static_cast<double>(row.slots) / static_cast<double>(trace.n_layers * trace.n_experts))};
    for (const auto& entry : row.entries)
      cells.push_back(fmt::format("{:.1f} %", 100 * (pooled ? entry.pooled : entry.per_layer).hit_rate()));
    const CacheCount& any = pooled ? row.entries[0].pooled : row.entries[0].per_layer;
    cells.push_back(fmt::format("{:.1f} %", 100.0 * static_cast<double>(any.cold) / static_cast<double>(any.demands)));
    rows.push_back(std::move(cells));
  }
  return markdown_table(rows);
}

std::string plain_text(const RoutingTrace& trace, uint64_t expert_bytes, const Report& r) {
  std::string out = fmt::format("{} tokens, {} layers of {} experts, {} used", trace.n_tokens(), trace.n_layers,
                                trace.n_experts, trace.top_k);
  if (expert_bytes > 0) out += fmt::format(", {} each", format_bytes(expert_bytes));
  out += "\n\n";
  std::vector<std::vector<std::string>> rows = {{"window", "SRP", "rho", "lowest layer", "highest layer"}};
  for (const SegmentScore& score : r.all) {
    std::string low = "", high = "";
    if (score.window == kSegmentWindow) {
      const auto [a, b] = std::minmax_element(r.by_layer.begin(), r.by_layer.end(),
                                              [](const auto& x, const auto& y) { return x.srp < y.srp; });
      low = fmt::format("{:.3f} ({})", a->srp, a - r.by_layer.begin());
      high = fmt::format("{:.3f} ({})", b->srp, b - r.by_layer.begin());
    }
    rows.push_back({std::to_string(score.window), fmt::format("{:.3f}", score.srp), fmt::format("{:.2f}", score.rho), low, high});
  }
  if (rows.size() > 1) out += markdown_table(rows) + "\n";
  out += "Hit rates, one cache for all layers:\n\n" + cache_table(trace, r, true);
  out += "\nHit rates, a cache per layer:\n\n" + cache_table(trace, r, false);
  out += fmt::format("\nadvice: hold {} experts (rho {:.3g}){}: policy {} finds {:.1f} % of what is asked for\n",
                     r.advice.slots, r.advice.rho,
                     expert_bytes > 0 ? ", " + format_bytes(static_cast<uint64_t>(r.advice.slots) * expert_bytes) : "",
                     r.advice.policy, 100 * r.advice.hit_rate);
  return out;
}

}  // namespace

std::string routing_report(const RoutingTrace& trace, uint64_t expert_bytes, bool json) {
  const Report report = measure(trace);
  return json ? json_text(trace, expert_bytes, report) : plain_text(trace, expert_bytes, report);
}

}  // namespace venturi
