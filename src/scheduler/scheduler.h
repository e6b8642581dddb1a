// Which rows go into the next step.
//
// Requests wait in a queue; the scheduler gives them state (pages), cuts their prompts into chunks,
// puts the chunks beside the rows of running streams, and takes state away when there is too little.
// It computes nothing, reads no clock and owns no page: times are handed in, the StateStore is the
// caller's, so that a simulator drives it as the server does.
//
//   batching    Every running stream has its row (and those of its draft) in every step. What time is
//               left goes to prompts, in chunks: a step may take `stretch` times as long as without
//               them (Dynamic SplitFuse, Holmes et al. 2024, with the budget in seconds by StepCost, for
//               on a CPU equal tokens are not equal time). Where nothing streams it is `long_step` times as
//               long as the weights are read: who comes next waits for it, and longer steps save little.
//   newcomers   Prompts of a key that has few places while another has more than its share, or waits for more, get
//               `newcomer_stretch`, and short ones a step of their own: their first token is worth more
//               than one gap of those who have much.
//   fairness    Each key has a counter of served tokens over its weight; the least counter goes first
//               (Virtual Token Counter, Sheng et al. 2024, arXiv 2401.00588). A key that comes back is
//               lifted to the least counter of those that have work, less `credit`: so many tokens of what it did
//               not ask for are kept for it, a long prompt's worth. Tokens found in the prefix cache are free.
//   order       higher level, then the lesser counter, then the earlier turn. A request's level is its priority, but
//               no more than its key may claim of others; its turn is its place in line, which the requests of a key
//               and level trade among themselves by priority. So no priority that a client sets beats another key's
//               counter. What was left out of the steps for promote_after_seconds in all, with state or without, counts
//               as of the highest level and priority there is from then on.
//   waiting     Whom priorities keep waiting is promoted after that time; then only fairness does. From then until
//               its next token or its end, in tokens as they are charged (prompt_charge, output_charge):
//                 its own key is given at most      A + O,
//                 another key j                     w_j * max(0, c - c_j + (S + O) / w) + 2 O,
//               where A is what its prompt and the requests of its key before it will still take; w, w_j the weights;
//               c, c_j the counters when it is promoted; S what its own key is given meanwhile; O = max_running times the
//               charge of the longest request: what runs at the start, and at the end. The sum bounds its wait, for no
//               plan is empty while anything in memory can run, and before something new no more is computed again than
//               memory holds. Not counted are steps while its state is on its way from the disk, and those with a
//               prompt of its key that may have few rows of them (prompt_outputs). Before it in its key is what came
//               earlier and has been promoted, or has the highest priority.
//   preemption  When pages run out, or a request finds all places taken whose key has less than its share of
//               them (by weight) or lesser ones of its own, the running request that comes last in the order gives way: to disk, or forgotten and
//               recomputed, whichever StepCost says is quicker. The first in order is never taken from, so
//               something always gets on.
//   disk        What comes from the disk takes a place at once and runs when it is there; the others go on meanwhile.
//   refusal     What can never fit, and what would queue too long (by number, or by the time that the requests
//               before it will take), is refused at submit(). Requests that belong together are taken or refused
//               together, by what was there before them.
//
// Every request ends exactly once: by complete(), cancel() or fail_all(). Threads: one at a time.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "scheduler/step_cost.h"

namespace venturi {

using RequestId = uint64_t;  // 1, 2, 3, … in order of submission

struct RequestSpec {
  std::string key = {};        // who asks: the account of fairness
  double weight = 1;           // of the key; the latest request's holds
  int priority = 0;            // higher goes first, among the requests of its key
  int max_priority = 0;        // of the key: so much of it counts before other keys, too
  int64_t prompt_tokens = 0;
  int64_t max_new_tokens = 0;
  bool prompt_outputs = false;  // the logits of all rows of its prompt are wanted: attach() finds nothing
  // Not before that request has its prompt computed, or has ended (n answers to one prompt: the others
  // find it in the prefix cache). 0: none.
  RequestId after = 0;
};

// The sequence state of requests, as the scheduler needs to know it. Calls for requests that have no
// state yet create it; release() ends it.
class StateStore {
 public:
  virtual ~StateStore() = default;
  // Whether a request may ever have so many tokens, with nothing else in memory.
  virtual bool can_ever_hold(int64_t tokens) const = 0;
  // Takes what the prefix cache has of a request that has no state; the tokens, less than its prompt.
  // Nothing where the logits of its prompt are wanted and it has drawn no token.
  virtual int64_t attach(RequestId id) = 0;
  // Makes room for `tokens` tokens in all; false, and nothing changed, when there are no pages.
  virtual bool reserve(RequestId id, int64_t tokens) = 0;
  // Gives all pages back, in memory and on disk. After it the request has no state.
  virtual void release(RequestId id) = 0;
  // To disk, giving its pages in memory back; false, and nothing changed, when the disk has no room.
  virtual bool move_out(RequestId id) = 0;
  // Back. kNoRoom: nothing changed, try again later. kLost: it cannot be read; the state is released.
  enum class MoveIn { kDone, kNoRoom, kLost };
  virtual MoveIn move_in(RequestId id) = 0;
  // What attach() or move_in() gave may still be on its way from the disk. Until it is here the request has its pages
  // and may be released, nothing else. kLost: it could not be read; the state is released.
  enum class Arrival { kHere, kComing, kLost };
  virtual Arrival arrival(RequestId) { return Arrival::kHere; }
};

struct SchedulerOptions {
  int64_t max_running = 32;         // requests with state in memory
  int64_t max_step_rows = 512;
  int64_t max_step_outputs = INT64_MAX;  // rows of a step whose logits are wanted; max_running at least
  int64_t min_prompt_rows = 4;      // a step beside running streams gives prompts at least these
  double stretch = 1.4;             // of a step by prompts, over the step without
  double newcomer_stretch = 3.0;    // by the prompts of newcomers
  double long_step = 8;             // a step that is long enough, over reading the weights
  int64_t max_queued = 1024;
  int64_t max_queued_per_key = 256;
  double max_queued_seconds = 60;   // as predicted
  double promote_after_seconds = 30;     // of waiting, in all
  double prompt_charge = 1, output_charge = 2;  // per token, over the key's weight
  double credit = 2048;             // likewise
};

// One step's work. The state of every request named has room for its rows.
struct StepWork {
  struct Rows {
    RequestId id = 0;
    int64_t first = 0, count = 0;  // positions [first, first + count) of the request
    bool outputs = false;          // they reach its end: a token is drawn after them
    int64_t drafts = 0;            // of count, those that are guesses, at the end
  };
  std::vector<Rows> rows;
  int64_t n_rows = 0, context = 0;  // context: tokens attended, over all rows
  int64_t n_outputs = 0;            // rows whose logits are wanted
  double predicted_seconds = 0;
};

struct StepOutcome {
  RequestId id = 0;
  int64_t new_tokens = 0;  // drawn: 1, or 1 + accepted guesses; 0 where there were no outputs
  bool ended = false;      // by a token, a stop text, its limit
  bool failed = false;     // ended by an error
};

enum class RequestPhase { kQueued, kPrompt, kStream, kMovedOut };

struct RequestView {
  RequestPhase phase = RequestPhase::kQueued;
  int64_t computed = 0, known = 0, cached = 0;
  double arrived = 0;
};

struct SchedulerCounts {
  int64_t queued = 0, running = 0, moved_out = 0;
  uint64_t submitted = 0, refused = 0, finished = 0, failed = 0, cancelled = 0;
  uint64_t preempted_to_disk = 0, preempted_to_recompute = 0, resumed = 0;
  uint64_t prompt_tokens = 0, output_tokens = 0, cached_tokens = 0, recomputed_tokens = 0;
};

struct Refusal {
  enum class Why { kNever, kKeyQueueFull, kQueueFull, kTooLong } why = Why::kNever;
  double retry_after_seconds = 0;  // not for kNever
  std::string message = {};
};

class Scheduler {
 public:
  Scheduler(const SchedulerOptions& options, const StepCost& cost, StateStore& store);
  ~Scheduler();

  // The request's number, or why not.
  struct Submitted {
    RequestId id = 0;
    std::optional<Refusal> refusal = std::nullopt;
  };
  Submitted submit(const RequestSpec& spec, double now) { return submit({&spec, 1}, now); }
  // All or none of a group, not empty, whose key and weight are one. The number is the first one's; the others follow it.
  Submitted submit(std::span<const RequestSpec> group, double now);
  // That the next request will have.
  RequestId next_id() const { return next_id_; }
  // The requests of a group that may be taken where nothing waits.
  static int64_t largest_group(const SchedulerOptions& options) { return std::min(options.max_queued, options.max_queued_per_key); }
  // Ends a request wherever it is. Its pages come free at once, or, if it is part of the step that is
  // running, when that completes. False if it has ended before.
  bool cancel(RequestId id);
  // Guesses that a stream would like checked in the next step (speculative decoding).
  void set_drafts(RequestId id, int64_t tokens);

  // The next step; empty when nothing can run. A step planned must be completed before the next is.
  StepWork plan(double now);
  // What became of it: an outcome for every request of the step.
  void complete(const std::vector<StepOutcome>& outcomes, double seconds);

  void observe_move(int64_t tokens, double seconds) { cost_.observe_move(tokens, seconds); }

  bool idle() const;  // nothing queued, running or moved out
  std::optional<RequestView> view(RequestId id) const;  // none of what has ended
  const SchedulerCounts& counts() const { return counts_; }
  const StepCost& cost() const { return cost_; }
  double served(std::string_view key) const;  // the counter, for tests and metrics

 private:
  struct Request;
  struct Key;
  using Order = std::vector<Request*>;

  Request* find(RequestId id) const;
  bool before(const Request& a, const Request& b) const;
  Order ordered();
  void assign_turns(const Order& by_id) const;
  void sort(Order::iterator begin, Order::iterator end) const;
  void charge(Request& request, double tokens);
  void charge_prompt(Request& request, int64_t tokens);
  void end(RequestId id);
  void preempt(Request& request);
  // Frees pages by preempting from the back of `order` what comes after `keep`; false if nobody is left.
  enum class Scarce { kPlaces, kPages };
  double share(const Key& key, double of) const;
  Request* victim_for(const Order& order, const Request& request, Scarce scarce) const;
  bool take_from_others(const Order& order, const Request& request, Scarce scarce);
  bool reserve_from_others(const Order& order, const Request& request);
  bool make_room(const Order& order, const Request& keep);
  bool reserve(const Order& order, Request& request, int64_t tokens);
  void plan_streams(const Order& order, bool may_hold_back, StepWork& work);
  void admit(Order& order);
  void plan_prompts(const Order& order, StepWork& work);
  bool bring_in(const Order& order, Request& request);
  void take_arrival(Request& request);
  void add_rows(Request& request, int64_t count, int64_t drafts, StepWork& work);
  bool newcomer(const Key& key) const;
  bool short_prompt(const Request& request) const;
  int64_t prompt_rows(const Request& request, const StepWork& streams, const StepWork& work) const;
  double work_seconds(const Request& request) const;
  double queue_seconds(const RequestSpec& spec) const;
  std::optional<Refusal> refusal(std::span<const RequestSpec> group) const;
  RequestId add(const RequestSpec& spec, double now);

  const SchedulerOptions options_;
  StepCost cost_;
  StateStore& store_;
  RequestId next_id_ = 1;
  std::map<RequestId, std::unique_ptr<Request>> requests_;
  std::map<std::string, Key, std::less<>> keys_;
  double last_counter_ = 0;  // of the key that was the last to have work
  SchedulerCounts counts_;
  int64_t step_rows_ = 0, step_context_ = 0;
  bool in_step_ = false;
  double now_ = 0;                // of the plan at hand
  double active_weight_ = 0;      // in it: of the keys that have requests
  double answer_share_ = 0.5;     // of max_new_tokens that answers come to, the latest counting most
  int preempted_for_others_ = 0;
  int64_t coming_ = 0;  // requests whose state is on its way
};

}  // namespace venturi
