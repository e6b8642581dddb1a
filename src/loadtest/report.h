// What a run of load says: latencies, rates, fairness; as text, JSON and a picture.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "loadtest/client.h"

namespace venturi::loadtest {

// Percentiles lie between the two nearest values in order, in proportion.
struct Summary {
  int64_t count = 0;
  double mean = 0, p50 = 0, p90 = 0, p95 = 0, p99 = 0, max = 0;
};
Summary summarise(std::vector<double> values);

// Jain, Chiu, Hawe 1984: (sum x)^2 / (n sum x^2); 1 where all have the same, 1/n where one has all.
// 1 of nothing.
double jain_index(const std::vector<double>& shares);

struct Targets {
  double ttft_seconds = 0, tpot_seconds = 0;  // 0: none
};

struct KeyReport {
  int64_t requests = 0, answered = 0;
  double tokens_asked = 0, tokens_served = 0;  // prompt and answer
  Summary ttft;
};

struct Report {
  int64_t requests = 0, answered = 0, within_targets = 0;
  std::vector<std::pair<std::string, int64_t>> errors;  // by kind, most first
  std::string first_error;                              // what the server said to one of them
  double seconds = 0;                                   // from the first arrival counted to the last end
  Summary ttft, tpot, gap, whole, late;                 // seconds
  Summary longest_gap;                                  // of each request
  double requests_per_second = 0, output_tokens_per_second = 0, prompt_tokens_per_second = 0;
  double goodput_per_second = 0;  // requests that met all targets
  int64_t prompt_tokens = 0, output_tokens = 0, cached_tokens = 0;
  std::vector<KeyReport> keys;
  double jain_tokens = 1;  // of tokens served to each key
  double jain_share = 1;   // of tokens served over tokens asked
};

// Arrivals before `warm_up_seconds` count for nothing.
Report make_report(const Run& run, const Targets& targets, double warm_up_seconds, size_t keys);

std::string report_text(const Report& report, const Targets& targets);
nlohmann::ordered_json report_json(const Report& report, const Targets& targets);
// Requests over time: waiting, streaming, and what failed; below, time to the first token and the
// longest gap of each.
std::string report_svg(const Run& run, const std::string& title);

}  // namespace venturi::loadtest
