// The service: many requests on one engine, a step at a time.
//
// One thread owns the engine. Between steps it takes in what was submitted and cancelled, asks the
// scheduler which rows come next, runs them, draws a token for every row that reached the end of
// its request, and tells each request's listener. A request's tokens are a function of its prompt,
// its sampling and its seed alone: neighbours, chunks, preemption and recomputation change none.
//
// Threads: every public member may be called from any thread. Listeners are called from the
// service's thread, between steps, and must not block; everything runs again when they return.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "engine/speculator.h"
#include "engine/turn.h"
#include "grammar/constraint.h"
#include "models/sampling.h"
#include "scheduler/scheduler.h"

namespace venturi {

class RequestStore;
struct KnownRequest;

using Ticket = uint64_t;  // of a request, from 1

struct Submission {
  std::vector<TokenId> prompt;  // not empty
  int64_t max_new_tokens = 128;
  SamplingParams sampling = {};
  std::unique_ptr<grammar::Constraint> constraint =
      {};                   // what may be drawn; ends when its text is whole
  bool ignore_end = false;  // go on after a token that ends generation
  int top_logprobs =
      -1;                // -1: no logprobs; else of the token drawn and of so many of the likeliest
  int prompt_logprobs = -1;  // likewise, of the prompt's tokens
  const Adapter* adapter = nullptr;  // of the engine's; null: the model alone
  std::string key = {};  // whose account it is on
  double weight = 1;     // of the key
  int priority = 0;      // among the requests of the key
  int max_priority = 0;  // of the key: so much of it counts before other keys, too
  // Its prompt is that of this one of its group, which is computed once where prefixes are kept; -1: of none before it.
  int64_t same_prompt = -1;
};

struct DrawnToken {
  TokenId id = 0;
  bool ends = false;  // it ends generation, and stands for no text
  // Natural logarithms of the model's own distribution, before sampling changed it.
  double logprob = 0;
  std::vector<std::pair<TokenId, double>> top = {};  // likeliest first
};

enum class Finish {
  kNone,
  kRefused,  // see refusal
  kEnd,      // by a token that ends generation, or a whole text of the grammar
  kLength,   // max_new_tokens were drawn
  kCancelled,
  kFailed,  // see error
};

// Seconds on the monotonic clock; 0: not yet.
struct RequestTimes {
  double submitted = 0, started = 0, first_token = 0, last_token = 0, ended = 0;
};

// Something became of a request. A listener gets kRefused alone, or one update without a token when
// the request is taken in, then one per token; the last says why it ended.
struct Update {
  Ticket ticket = 0;
  std::optional<DrawnToken> token = {};
  Finish finish = Finish::kNone;
  std::optional<Refusal> refusal = {};
  std::optional<Error> error = {};
  int64_t cached_tokens = 0;
  // With the first token, where they were asked for: of the prompt's tokens from the second on.
  std::vector<DrawnToken> prompt = {};
  RequestTimes times = {};
};
using Listener = std::function<void(const Update&)>;

struct StepReport {
  int64_t rows = 0;
  double predicted_seconds = 0, engine_seconds = 0;  // of the engine's part
  double seconds = 0;                                // with planning, drawing and listeners
  std::span<const StepWork::Rows> work = {};         // during the call
};

struct RequestReport {
  Finish finish = Finish::kNone;  // not kRefused
  int64_t prompt_tokens = 0, drawn_tokens = 0;
  RequestTimes times = {};
};

// Who counts what the service does. Called from the service's thread; must not block.
class ServiceObserver {
 public:
  virtual ~ServiceObserver() = default;
  virtual void first_token(const RequestReport& request) = 0;
  virtual void next_token(double seconds_since_the_last) = 0;
  virtual void ended(const RequestReport& request) = 0;
  virtual void step(const StepReport& step) = 0;
};

// Work on the engine's state between steps, a slice at a time.
class Chore {
 public:
  virtual ~Chore() = default;  // where it is not over: the service ends
  // On the service's thread, for a few milliseconds; true when it is over.
  virtual bool some(Engine& engine) = 0;
};

struct ServiceOptions {
  SchedulerOptions scheduler = {};  // max_running, max_step_rows and max_step_outputs are the engine's
  std::optional<StepCost> cost = {};
  ServiceObserver* observer = nullptr;  // outlives the service
  std::shared_ptr<Speculator> speculator = {};  // the service's alone; null: nothing is guessed
  std::shared_ptr<Turn> turn = {};  // with the services of other models; null: there are none
};

struct ServiceCounts {
  SchedulerCounts scheduler;
  uint64_t steps = 0;
  double step_seconds = 0;     // of whole steps, with planning, drawing and listeners
  double engine_seconds = 0;   // of those, in the engine
  double draw_seconds = 0;     // sampling, with grammars and logprobs
  double tell_seconds = 0;     // listeners
  int64_t state_tokens = 0;    // that running requests have room for
  int64_t state_capacity = 0;  // at most
  uint64_t prefix_queries = 0, prefix_hits = 0;  // tokens looked up in the prefix cache, and found
  uint64_t state_written_bytes = 0, state_read_bytes = 0;  // of the file
  SpeculationCounts speculation = {};
};

class Service {
 public:
  // The engine is the service's until it is destroyed. Code::kUnsupported for a model that draws no
  // tokens, and for guesses with one whose state cannot take them back.
  static Result<std::unique_ptr<Service>> start(Engine& engine, const ServiceOptions& options = {});
  // Ends what runs (kCancelled) and joins.
  ~Service();
  Service(const Service&) = delete;
  Service& operator=(const Service&) = delete;

  // Checked before it is queued: an empty prompt, sampling out of range.
  Result<Ticket> submit(Submission submission, Listener listener);
  // Requests of one key that belong together, with one listener: all are taken in, or none, and then it is told kRefused
  // once, for the first. The ticket is the first one's; the others follow it, in order.
  Result<Ticket> submit(std::vector<Submission> group, Listener listener);
  int64_t largest_group() const { return largest_group_; }  // no more may be submitted at once
  // Ends a request wherever it is, after the step that runs; nothing if it has ended. `why` is what its
  // listener is told: kEnd where it has what it wanted (a stop text).
  void cancel(Ticket ticket, Finish why = Finish::kCancelled);
  // Takes no more requests (kRefused) and returns when those there have ended, or false after
  // `seconds`.
  bool drain(double seconds);
  ServiceCounts counts() const;
  // Does it beside the requests; the engine may have one sequence more than the scheduler runs requests, for this.
  void add(std::unique_ptr<Chore> chore);

 private:
  struct Request;
  struct Arrival {
    Ticket first;
    std::vector<Submission> group;
    std::vector<Sampler> samplers;
    std::shared_ptr<const Listener> listener;
    double submitted;
    bool late;  // it came while draining
  };

  struct Cancel {
    Ticket ticket;
    Finish why;
  };

  Service(Engine& engine, const Tokenizer& tokenizer, const ServiceOptions& options);
  std::optional<KnownRequest> known(RequestId id) const;
  void loop();
  void take_in(std::deque<Arrival>& arrivals, const std::deque<Cancel>& cancels);
  void take_in(Arrival& arrival);
  Status check(const Submission& submission) const;
  void speculate();
  void wait(std::unique_lock<std::mutex>& lock, bool disk);
  void do_chores();
  void run(const StepWork& work);
  double run(std::span<const StepWork::Rows> work, std::vector<StepOutcome>& outcomes);
  std::vector<int64_t> output_rows(const StepWork::Rows& rows) const;
  void log_prompt(Request& r, const StepWork::Rows& rows, const Act& logits, int64_t row);
  void draw(std::span<const StepWork::Rows> work, std::span<const int64_t> ends, const Act& logits);
  void draw(Request& r, int64_t guesses, const Act& logits, int64_t row, std::vector<float>& masked) const;
  Result<DrawnToken> draw_token(Request& r, std::span<const float> logits, std::vector<float>& masked) const;
  StepOutcome settle(const StepWork::Rows& rows);
  Finish end_of(const Request& r, const DrawnToken& token) const;
  void tell_token(RequestId id, DrawnToken token, Finish why);
  void finish(RequestId id, Finish why, std::optional<DrawnToken> token,
              std::optional<Error> error);
  void tell(const Request& r, const Update& update);
  void publish();

  Engine& engine_;
  const Tokenizer& tokenizer_;
  ServiceObserver* const observer_;
  const std::shared_ptr<Speculator> speculator_;
  const std::shared_ptr<Turn> turn_;
  std::unique_ptr<RequestStore> store_;
  std::unique_ptr<Scheduler> scheduler_;
  std::map<RequestId, std::unique_ptr<Request>> requests_;
  std::map<Ticket, RequestId> ids_;
  int64_t max_running_ = 0, largest_group_ = 0;
  std::vector<std::vector<float>> masked_;  // for each thread
  double moved_seconds_ = 0;  // of the cache's file, as seen last
  ServiceCounts at_work_;     // the service's own, published after every step
  std::vector<std::unique_ptr<Chore>> chores_;

  mutable std::mutex mutex_;  // of what follows
  std::condition_variable wake_, idle_;
  std::deque<Arrival> arrivals_;
  std::deque<Cancel> cancels_;
  std::vector<std::unique_ptr<Chore>> new_chores_;
  Ticket next_ticket_ = 1;
  bool stopping_ = false, draining_ = false, is_idle_ = true;
  ServiceCounts counts_;

  std::thread thread_;  // last: everything is there when it starts
};

}  // namespace venturi
