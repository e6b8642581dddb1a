#include "loadtest/report.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

namespace venturi::loadtest {

namespace {

double tpot_of(const Record& r) {
  return r.output_tokens > 1 ? (r.last_token - r.first_token) / static_cast<double>(r.output_tokens - 1) : 0;
}

nlohmann::ordered_json json_of(const Summary& s) {
  return {{"count", s.count}, {"mean", s.mean}, {"p50", s.p50}, {"p90", s.p90},
          {"p95", s.p95},     {"p99", s.p99},   {"max", s.max}};
}

std::string time_text(double s) {
  return s >= 1 ? fmt::format("{:.2f} s", s) : fmt::format("{:.1f} ms", s * 1e3);
}

}  // namespace

Summary summarise(std::vector<double> values) {
  Summary s;
  s.count = static_cast<int64_t>(values.size());
  if (values.empty()) return s;
  std::sort(values.begin(), values.end());
  for (const double v : values) s.mean += v;
  s.mean /= static_cast<double>(values.size());
  const auto at = [&](double share) {
    const double rank = share * static_cast<double>(values.size() - 1);
    const size_t below = static_cast<size_t>(rank);
    const size_t above = std::min(below + 1, values.size() - 1);
    return values[below] + (rank - static_cast<double>(below)) * (values[above] - values[below]);
  };
  s.p50 = at(0.5);
  s.p90 = at(0.9);
  s.p95 = at(0.95);
  s.p99 = at(0.99);
  s.max = values.back();
  return s;
}

double jain_index(const std::vector<double>& shares) {
  double sum = 0, squares = 0;
  for (const double x : shares) {
    sum += x;
    squares += x * x;
  }
  return squares > 0 ? sum * sum / (static_cast<double>(shares.size()) * squares) : 1;
}

Report make_report(const Run& run, const Targets& targets, double warm_up, size_t n_keys) {
  Report report;
  report.keys.resize(n_keys);
  std::vector<double> ttft, tpot, gaps, whole, late, longest;
  std::vector<std::vector<double>> key_ttft(n_keys);
  std::map<std::string, int64_t> errors;
  double first = -1, last = 0;
  for (const Record& r : run.records) {
    if (r.arrival.at < warm_up) continue;
    if (first < 0) first = r.arrival.at;
    last = std::max(last, r.arrival.at + r.ended);
    KeyReport& key = report.keys[r.arrival.key];
    ++report.requests;
    ++key.requests;
    late.push_back(r.late);
    key.tokens_asked += static_cast<double>(std::max(r.prompt_tokens, r.arrival.prompt_tokens) + r.arrival.output_tokens);
    // What came of a request that failed later was served as well.
    report.output_tokens += r.output_tokens;
    if (r.first_token > 0) {
      report.prompt_tokens += r.prompt_tokens;
      report.cached_tokens += r.cached_tokens;
      key.tokens_served += static_cast<double>(r.prompt_tokens + r.output_tokens);
    }
    if (!r.error.empty()) {
      ++errors[r.error];
      if (report.first_error.empty()) report.first_error = r.detail;
      continue;
    }
    ++report.answered;
    ++key.answered;
    ttft.push_back(r.first_token);
    key_ttft[r.arrival.key].push_back(r.first_token);
    whole.push_back(r.ended);
    if (r.output_tokens > 1) tpot.push_back(tpot_of(r));
    float most = 0;
    for (const float gap : r.gaps) {
      gaps.push_back(static_cast<double>(gap));
      most = std::max(most, gap);
    }
    if (!r.gaps.empty()) longest.push_back(static_cast<double>(most));
    if ((targets.ttft_seconds <= 0 || r.first_token <= targets.ttft_seconds) &&
        (targets.tpot_seconds <= 0 || tpot_of(r) <= targets.tpot_seconds))
      ++report.within_targets;
  }
  report.errors.assign(errors.begin(), errors.end());
  std::stable_sort(report.errors.begin(), report.errors.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  report.ttft = summarise(std::move(ttft));
  report.tpot = summarise(std::move(tpot));
  report.gap = summarise(std::move(gaps));
  report.whole = summarise(std::move(whole));
  report.late = summarise(std::move(late));
  report.longest_gap = summarise(std::move(longest));
  report.seconds = std::max(0.0, last - std::max(first, 0.0));
  if (report.seconds > 0) {
    report.requests_per_second = static_cast<double>(report.answered) / report.seconds;
    report.goodput_per_second = static_cast<double>(report.within_targets) / report.seconds;
    report.output_tokens_per_second = static_cast<double>(report.output_tokens) / report.seconds;
    report.prompt_tokens_per_second = static_cast<double>(report.prompt_tokens) / report.seconds;
  }
  std::vector<double> served, shares;
  for (size_t k = 0; k < n_keys; ++k) {
    report.keys[k].ttft = summarise(std::move(key_ttft[k]));
    if (report.keys[k].requests == 0) continue;
    served.push_back(report.keys[k].tokens_served);
    shares.push_back(report.keys[k].tokens_served / report.keys[k].tokens_asked);
  }
  report.jain_tokens = jain_index(served);
  report.jain_share = jain_index(shares);
  return report;
}

std::string report_text(const Report& r, const Targets& targets) {
  std::string text = fmt::format("{} of {} requests answered in {:.1f} s\n", r.answered, r.requests, r.seconds);
  for (const auto& [kind, n] : r.errors) text += fmt::format("  {}: {}\n", kind, n);
  if (!r.first_error.empty()) text += fmt::format("  the first says: {}\n", r.first_error.substr(0, 200));
  text += "\n| | mean | p50 | p90 | p99 | max | of |\n|---|---|---|---|---|---|---|\n";
  const auto row = [&](const char* name, const Summary& s) {
    text += fmt::format("| {} | {} | {} | {} | {} | {} | {} |\n", name, time_text(s.mean), time_text(s.p50),
                        time_text(s.p90), time_text(s.p99), time_text(s.max), s.count);
  };
  row("time to first token", r.ttft);
  row("time per output token", r.tpot);
  row("inter-token latency", r.gap);
  row("longest gap of a request", r.longest_gap);
  row("whole request", r.whole);
  text += fmt::format("\n{:.3g} requests/s, {:.4g} output tokens/s, {:.4g} prompt tokens/s ({} of {} prompt tokens cached)\n",
                      r.requests_per_second, r.output_tokens_per_second, r.prompt_tokens_per_second, r.cached_tokens,
                      r.prompt_tokens);
  if (targets.ttft_seconds > 0 || targets.tpot_seconds > 0) {
    text += fmt::format("goodput {:.3g} requests/s: {} of {} met", r.goodput_per_second, r.within_targets, r.requests);
    if (targets.ttft_seconds > 0) text += fmt::format(" first token {}", time_text(targets.ttft_seconds));
    if (targets.tpot_seconds > 0) text += fmt::format(" per token {}", time_text(targets.tpot_seconds));
    text += "\n";
  }
  if (r.keys.size() > 1) {
    text += fmt::format("\nfairness (Jain): {:.3f} of tokens served, {:.3f} of their share of those asked\n\n"
                        "| key | answered | of | tokens served | TTFT p50 | TTFT p95 |\n|---|---|---|---|---|---|\n",
                        r.jain_tokens, r.jain_share);
    for (size_t k = 0; k < r.keys.size(); ++k)
      text += fmt::format("| {} | {} | {} | {:.0f} | {} | {} |\n", k + 1, r.keys[k].answered, r.keys[k].requests,
                          r.keys[k].tokens_served, time_text(r.keys[k].ttft.p50), time_text(r.keys[k].ttft.p95));
  }
  if (r.late.max > 0.05)
    text += fmt::format("\nrequests were sent up to {} late: the load generator itself was short of time\n",
                        time_text(r.late.max));
  return text;
}

nlohmann::ordered_json report_json(const Report& r, const Targets& targets) {
  nlohmann::ordered_json errors = nlohmann::ordered_json::object(), keys = nlohmann::ordered_json::array();
  for (const auto& [kind, n] : r.errors) errors[kind] = n;
  for (const KeyReport& key : r.keys)
    keys.push_back({{"requests", key.requests}, {"answered", key.answered}, {"tokens_asked", key.tokens_asked},
                    {"tokens_served", key.tokens_served}, {"ttft_seconds", json_of(key.ttft)}});
  return {{"requests", r.requests},
          {"answered", r.answered},
          {"errors", errors},
          {"first_error", r.first_error},
          {"seconds", r.seconds},
          {"ttft_seconds", json_of(r.ttft)},
          {"tpot_seconds", json_of(r.tpot)},
          {"inter_token_seconds", json_of(r.gap)},
          {"longest_gap_seconds", json_of(r.longest_gap)},
          {"request_seconds", json_of(r.whole)},
          {"late_seconds", json_of(r.late)},
          {"requests_per_second", r.requests_per_second},
          {"output_tokens_per_second", r.output_tokens_per_second},
          {"prompt_tokens_per_second", r.prompt_tokens_per_second},
          {"prompt_tokens", r.prompt_tokens},
          {"cached_tokens", r.cached_tokens},
          {"output_tokens", r.output_tokens},
          {"targets", {{"ttft_seconds", targets.ttft_seconds}, {"tpot_seconds", targets.tpot_seconds}}},
          {"within_targets", r.within_targets},
          {"goodput_per_second", r.goodput_per_second},
          {"jain_tokens", r.jain_tokens},
          {"jain_share", r.jain_share},
          {"keys", keys}};
}

}  // namespace venturi::loadtest
