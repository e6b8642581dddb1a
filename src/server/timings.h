// Where the time of an answer went, for responses that are asked to say so (docs/metrics.md).
#pragma once

#include "base/clock.h"
#include "engine/service.h"
#include "server/fields.h"

namespace venturi::server {

// Adds the time of a scope to a sum.
class Stopwatch {
 public:
  explicit Stopwatch(double& sum) : sum_(sum) {}
  ~Stopwatch() { sum_ += now_seconds() - begin_; }
  Stopwatch(const Stopwatch&) = delete;

 private:
  double& sum_;
  const double begin_ = now_seconds();
};

// Of all answers to a request together. total is the sum of those before finish and finish; detokenize and
// write are work of the server's thread, most of it beside decode.
struct Timings {
  double total = 0, tokenize = 0, queue = 0, prefill = 0, decode = 0, finish = 0;
  double detokenize = 0, write = 0;

  Json json() const {
    return {{"total_seconds", total},   {"tokenize_seconds", tokenize}, {"queue_seconds", queue},
            {"prefill_seconds", prefill}, {"decode_seconds", decode},     {"finish_seconds", finish},
            {"detokenize_seconds", detokenize}, {"write_seconds", write}};
  }
};

// The stamps of all answers.
class TimeLine {
 public:
  explicit TimeLine(double arrived) : arrived_(arrived) {}

  void add(const RequestTimes& t) {
    if (t.last_token == 0) return;
    const auto earlier = [](double& mine, double theirs) { mine = mine == 0 ? theirs : std::min(mine, theirs); };
    earlier(submitted_, t.submitted);
    earlier(started_, t.started);
    earlier(first_, t.first_token);
    last_ = std::max(last_, t.last_token);
  }
  double& detokenize() { return detokenize_; }
  double& write() { return write_; }
  // Up to now; `sent`: what the connection's writes have taken.
  Timings timings(double sent) const {
    const double now = now_seconds();
    return {.total = now - arrived_,
            .tokenize = submitted_ - arrived_,
            .queue = started_ - submitted_,
            .prefill = first_ - started_,
            .decode = last_ - first_,
            .finish = now - last_,
            .detokenize = detokenize_,
            .write = write_ + sent};
  }

 private:
  const double arrived_;
  double submitted_ = 0, started_ = 0, first_ = 0, last_ = 0;
  double detokenize_ = 0, write_ = 0;
};

}  // namespace venturi::server
