// The answers to one API request: submitted together, sent as they come or when all are whole.
//
// What the answers look like is an AnswerFormat, one per API. Everything here runs on the HTTP
// server's thread. When the client goes, the requests are cancelled.
#pragma once

#include <memory>
#include <random>

#include "server/app.h"
#include "server/text_stream.h"

namespace venturi::server {

struct LoggedToken {
  TokenId id = 0;
  double logprob = 0;
  std::vector<std::pair<TokenId, double>> top;
};

struct Answer {
  std::string text;
  std::vector<LoggedToken> tokens;  // where logprobs were asked for
  std::string finish;               // "stop", "length"
  int64_t n_tokens = 0;
};

struct Usage {
  int64_t prompt = 0, completion = 0, cached = 0;
  Json json() const;
};

class AnswerFormat {
 public:
  virtual ~AnswerFormat() = default;
  // Of a stream; null: nothing is sent.
  virtual Json first(int index) = 0;
  virtual Json delta(int index, const std::string& text,
                     const std::vector<LoggedToken>& tokens) = 0;
  virtual Json last(int index, const Answer& answer) = 0;
  virtual Json usage(const Usage& usage) = 0;
  // All answers at once.
  virtual Json whole(const std::vector<Answer>& answers, const Usage& usage) = 0;
};

struct GenerationRequest {
  std::vector<std::vector<TokenId>> prompts;
  int n = 1;               // answers to each
  int64_t max_tokens = 0;  // 0: what fits
  SamplingParams sampling;
  bool ignore_end = false;
  int top_logprobs = -1;
  std::vector<std::string> stops;
  std::shared_ptr<const grammar::Automaton> grammar;
  bool stream = false, include_usage = false;
  int priority = 0;
};

// The fields that all generating APIs of OpenAI's kind share: sampling, stop, stream,
// response_format, n.
GenerationRequest read_generation(Fields& fields, const App& app);

// Submits and answers, or refuses.
void generate(App& app, std::shared_ptr<Exchange> exchange, const std::string& account,
              GenerationRequest request, std::unique_ptr<AnswerFormat> format);

// "chatcmpl-" and 24 random characters.
std::string random_id(std::string_view prefix);

}  // namespace venturi::server
