// Sends a workload to a server that speaks OpenAI's API, and notes what came when.
//
// Open loop: every request is sent when its time has come, whether or not earlier ones were answered; its
// times count from that moment. An arrival that finds all connections in use is an error, not a wait.
// One thread, a connection for each request (Boost.Beast, in client.cc alone).
#pragma once

#include <string>
#include <vector>

#include "loadtest/workload.h"

namespace venturi::loadtest {

enum class Api { kCompletions, kChat };

struct ClientOptions {
  std::string host = "127.0.0.1", port = "8080", base_path = "/v1";
  Api api = Api::kCompletions;
  std::string model;              // empty: the first that the server names
  std::vector<std::string> keys;  // empty: none is sent
  int64_t max_connections = 1024;
  double timeout_seconds = 300;  // of a whole request
  int64_t context = 0;           // of a conversation's history; older turns go. 0: no limit
  bool ignore_eos = true;        // so that answers are as long as planned
  double temperature = -1;       // below 0: the server's own
  uint64_t seed = 1;             // of texts
};

// "http://HOST:PORT/PREFIX"; /v1 is added where the URL has no path.
Status parse_url(const std::string& url, ClientOptions& options);

// What became of a request; times in seconds after its arrival.
struct Record {
  Arrival arrival;
  std::string error;       // its kind: "connect", "timeout", "http 429", …; empty: answered to the end
  std::string detail;      // of the error, from the server
  double first_token = 0;  // 0: none came
  double last_token = 0, ended = 0;
  double late = 0;               // sent so much after its time
  int64_t prompt_tokens = 0;     // as the server counts
  int64_t cached_tokens = 0;     // of those
  int64_t output_tokens = 0;     // as the server counts, or events with text
  std::vector<float> gaps = {};  // between events with text
};

struct Run {
  std::string model;
  double tokens_per_word = 0, tokens_of_frame = 0;  // of a prompt, as measured beforehand
  double seconds = 0;
  bool interrupted = false;  // by SIGINT: what was not answered has the error "interrupted"
  std::vector<Record> records;
};

// Code::kIo when the server cannot be reached at all.
Result<Run> run_load(const ClientOptions& options, const std::vector<Arrival>& arrivals);

}  // namespace venturi::loadtest
