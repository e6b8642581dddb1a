// What is sent when: a list of requests, made from a seed or read from a trace, before anything runs.
//
// The shape is that of BurstGPT (Wang et al. 2024, arXiv 2401.17644): gaps between arrivals are Gamma
// distributed with shapes well below one, prompts are Zipf distributed, answers depend on the prompt's
// length. docs/loadtest.md says which numbers are theirs and which are ours.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace venturi::loadtest {

struct Arrival {
  double at = 0;  // seconds after the start
  size_t key = 0;
  int64_t conversation = 0;
  int64_t turn = 0;           // from 0
  int64_t prompt_tokens = 1;  // new in this turn
  int64_t output_tokens = 1;
};

struct WorkloadOptions {
  uint64_t seed = 1;
  int64_t requests = 100;
  double rate = 1;  // requests a second, on average
  // Shape of the Gamma gaps: drawn anew for every period, evenly on a logarithmic scale between the two.
  double shape_low = 0.5, shape_high = 0.5;
  double period_seconds = 60;
  // Lengths: fixed where above 0, else drawn.
  int64_t prompt_tokens = 0, output_tokens = 0;
  int64_t prompt_max = 1024, output_max = 1024;  // what is drawn beyond is drawn again
  double length_scale = 1;                       // of what was drawn
  double turns = 1;                              // of a conversation, on average
  double turn_gap_seconds = 30;                  // between its turns, on average
  std::vector<double> key_shares = {1};          // of conversations
};

// In order of arrival. The gaps' mean is 1/rate whatever the shapes.
std::vector<Arrival> make_workload(const WorkloadOptions& options);

// Median answer to a prompt of so many tokens, as read off BurstGPT's figure for ChatGPT.
double median_response(double prompt_tokens);

struct TraceOptions {
  int64_t requests = 0;  // at most; 0: all
  double speed = 1;      // timestamps are divided by it
  double length_scale = 1;
  int64_t prompt_max = 1024, output_max = 1024;  // longer ones are cut to these
  size_t keys = 1;
};
struct Trace {
  std::vector<Arrival> arrivals;
  int64_t failures = 0;  // rows of a response of 0 tokens, left out
};
// CSV in BurstGPT's columns, found by name: Timestamp, Request tokens, Response tokens, and, where
// there, Session ID. Rows of one session are the turns of one conversation, and on one key.
Result<Trace> parse_trace(std::string_view csv, const TraceOptions& options);

// Text of `words` words, a function of the seed and the stream.
std::string make_text(uint64_t seed, uint64_t stream, int64_t words);

}  // namespace venturi::loadtest
