#include "scheduler/scheduler.h"

#include <algorithm>
#include <cassert>
#include <climits>
#include <utility>

namespace venturi {

struct Scheduler::Key {
  double weight = 1, counter = 0;
  int max_priority = 0;
  double pending = 0;    // of the counter: charged for prompts that are not computed yet, the sum over its requests
  double given() const { return counter - pending; }
  int64_t requests = 0;  // that have not ended
  int64_t queued = 0, running = 0;
};

struct Scheduler::Request {
  RequestId id = 0;
  RequestSpec spec;
  Key* key = nullptr;
  double arrived = 0;
  enum class Place { kQueue, kMemory, kDisk } place = Place::kQueue;
  int64_t computed = 0;       // tokens in its state
  int64_t known = 0;          // prompt and drawn
  int64_t cached = 0;         // of the prompt, found
  int64_t most_computed = 0;  // before state was taken away: what comes again is not charged again
  int64_t drafts = 0;
  bool started = false;       // its prompt was computed once
  double waited = 0;          // in all, since it came: for a place, and for rows
  double seen = 0;            // until when that is counted
  bool had_rows = false;      // in the last step
  bool held_back = false;     // of the last step, for a newcomer's prompt
  bool coming = false;        // in memory, but for what is on its way there
  bool promoted = false;      // it waited too long, and from then on counts as of the highest priority
  int priority = 0, level = 0;  // in the plan at hand: before its key's requests, and before others'
  RequestId turn = 0;           // likewise
  bool charged = false;       // for its prompt
  double pending = 0;         // of the key's counter: so much of that is not computed yet
  bool in_step = false, cancelled = false;
  int64_t step_count = 0;     // rows in the step, without guesses
  bool step_outputs = false;

  int64_t missing() const { return known - computed; }
  bool logs_prompt() const { return spec.prompt_outputs && !started; }
  bool here() const { return place == Place::kMemory && !coming; }
  bool streams() const { return here() && started && missing() == 1; }
};

Scheduler::Scheduler(const SchedulerOptions& options, const StepCost& cost, StateStore& store)
    : options_(options), cost_(cost), store_(store) {}
Scheduler::~Scheduler() = default;

// ---- coming and going ---------------------------------------------------------------------------

// What is left to do for a request, its answer being as long as answers were of late.
double Scheduler::work_seconds(const Request& r) const {
  const double answer = answer_share_ * static_cast<double>(r.spec.max_new_tokens);
  const double rows = static_cast<double>(r.missing()) + std::max(1.0, answer - static_cast<double>(r.known - r.spec.prompt_tokens));
  const int64_t places = std::max<int64_t>(options_.max_running, 1);
  return rows * std::max(cost_.per_row_seconds, cost_.seconds(places, 0) / static_cast<double>(places));
}

// How long what waits before a request would take: at its key's share of the machine, or all that there is
// to do at the whole of it, whichever is sooner.
double Scheduler::queue_seconds(const RequestSpec& spec) const {
  double before = 0, others = 0, weight = spec.weight;
  for (const auto& [name, key] : keys_)
    if (key.requests > 0 && name != spec.key) weight += key.weight;
  for (const auto& [id, r] : requests_) {
    const bool same = r->spec.key == spec.key;
    if (same && r->place == Request::Place::kMemory) continue;
    (same ? before : others) += work_seconds(*r);
  }
  return std::min(before * weight / spec.weight, before + others);
}

std::optional<Refusal> Scheduler::refusal(std::span<const RequestSpec> group) const {
  for (const RequestSpec& spec : group) {
    // The last token drawn takes no place.
    const int64_t tokens = spec.prompt_tokens + spec.max_new_tokens - 1;
    if (!store_.can_ever_hold(tokens))
      return Refusal{Refusal::Why::kNever, 0, fmt::format("{} tokens of prompt and {} to generate do not fit the state's memory", spec.prompt_tokens, spec.max_new_tokens)};
  }
  const RequestSpec& spec = group.front();
  const auto n = static_cast<int64_t>(group.size());
  if (n > largest_group(options_))
    return Refusal{Refusal::Why::kNever, 0, fmt::format("{} requests in one are more than the {} that may wait", n, largest_group(options_))};
  const auto known = keys_.find(spec.key);
  const int64_t of_key = known == keys_.end() ? 0 : known->second.queued;
  const double wait = counts_.queued + counts_.moved_out > 0 ? queue_seconds(spec) : 0;
  const double retry = std::max(1.0, wait / 2);  // when half of what waits is gone
  const std::string more = n > 1 ? fmt::format("; there is no room for {} more", n) : "";
  if (of_key + n > options_.max_queued_per_key)
    return Refusal{Refusal::Why::kKeyQueueFull, retry, fmt::format("{} requests of this key wait already{}", of_key, more)};
  if (counts_.queued + n > options_.max_queued)
    return Refusal{Refusal::Why::kQueueFull, retry, fmt::format("{} requests wait already{}", counts_.queued, more)};
  if (wait > options_.max_queued_seconds)
    return Refusal{Refusal::Why::kTooLong, retry, fmt::format("it would wait for {:.0f} s", wait)};
  return std::nullopt;
}

Scheduler::Submitted Scheduler::submit(std::span<const RequestSpec> group, double now) {
  assert(!group.empty());
  for ([[maybe_unused]] const RequestSpec& spec : group)
    assert(spec.prompt_tokens > 0 && spec.max_new_tokens > 0 && spec.weight > 0 && spec.key == group.front().key);
  if (auto why = refusal(group)) {
    counts_.refused += group.size();
    return {.refusal = std::move(why)};
  }
  const RequestId first = next_id_;
  for (const RequestSpec& spec : group) add(spec, now);
  return {.id = first};
}

RequestId Scheduler::add(const RequestSpec& spec, double now) {
  Key& key = keys_[spec.key];
  key.weight = spec.weight;
  key.max_priority = spec.max_priority;
  if (key.requests == 0) {
    // Nobody saves up much while away.
    double least = -1;
    for (const auto& [name, other] : keys_)
      if (other.requests > 0 && (least < 0 || other.given() < least)) least = other.given();
    key.counter = std::max(key.counter, (least < 0 ? last_counter_ : least) - options_.credit / key.weight);
  }
  auto request = std::make_unique<Request>();
  request->id = next_id_++;
  request->spec = spec;
  request->key = &key;
  request->arrived = request->seen = now;
  request->known = spec.prompt_tokens;
  ++key.requests;
  ++key.queued;
  ++counts_.queued;
  ++counts_.submitted;
  const RequestId id = request->id;
  requests_.emplace(id, std::move(request));
  return id;
}

Scheduler::Request* Scheduler::find(RequestId id) const {
  const auto at = requests_.find(id);
  return at == requests_.end() ? nullptr : at->second.get();
}

void Scheduler::end(RequestId id) {
  Request& r = *find(id);
  // What was charged for and will not be computed.
  r.key->counter -= r.pending;
  r.key->pending -= r.pending;
  coming_ -= r.coming;
  if (r.place == Request::Place::kQueue) {
    --counts_.queued;
    --r.key->queued;
  } else {
    if (r.place == Request::Place::kMemory) {
      --counts_.running;
      --r.key->running;
    } else {
      --counts_.moved_out;
    }
    store_.release(id);
  }
  if (--r.key->requests == 0) {
    last_counter_ = r.key->counter;
    r.key->pending = 0;  // but for rounding it is
  }
  // Keys that are far in the past of everyone would be lifted anyway: only those with work are kept.
  if (r.key->requests == 0 && keys_.size() > 4096) keys_.erase(keys_.find(r.spec.key));
  requests_.erase(id);
}

bool Scheduler::cancel(RequestId id) {
  Request* r = find(id);
  if (!r || r->cancelled) return false;
  ++counts_.cancelled;
  if (r->in_step) {
    r->cancelled = true;
  } else {
    end(id);
  }
  return true;
}

void Scheduler::set_drafts(RequestId id, int64_t tokens) {
  if (Request* r = find(id)) r->drafts = std::max<int64_t>(tokens, 0);
}

// ---- planning -----------------------------------------------------------------------------------

bool Scheduler::before(const Request& a, const Request& b) const {
  if (a.level != b.level) return a.level > b.level;
  if (a.key != b.key && a.key->counter != b.key->counter) return a.key->counter < b.key->counter;
  return a.turn < b.turn;
}

// The requests of a key and level in the order of their priority get their numbers in the order of those. One
// number for each keeps before() an order, which comparing priorities within keys alone and numbers between would not.
void Scheduler::assign_turns(const Order& by_id) const {
  std::map<std::pair<const Key*, int>, Order> lines;
  for (Request* r : by_id) lines[{r->key, r->level}].push_back(r);
  for (const auto& [line, ids] : lines) {
    Order by_priority = ids;
    std::stable_sort(by_priority.begin(), by_priority.end(), [](const Request* a, const Request* b) { return a->priority > b->priority; });
    for (size_t i = 0; i < ids.size(); ++i) by_priority[i]->turn = ids[i]->id;
  }
}

Scheduler::Order Scheduler::ordered() {
  Order order;
  const auto level = [](const Request& r) { return std::min(r.spec.priority, r.key->max_priority); };
  int lowest = INT_MAX, highest = INT_MIN, highest_level = INT_MIN;
  for (const auto& [id, r] : requests_) {
    lowest = std::min(lowest, r->spec.priority);
    highest = std::max(highest, r->spec.priority);
    highest_level = std::max(highest_level, level(*r));
    order.push_back(r.get());
  }
  for (Request* r : order) {
    if (!std::exchange(r->had_rows, false)) r->waited += now_ - r->seen;
    r->seen = now_;
    r->promoted |= r->waited > options_.promote_after_seconds;
    r->priority = r->promoted ? highest : r->spec.priority;
    r->level = r->promoted ? highest_level : level(*r);
    r->turn = r->id;
  }
  if (lowest < highest) assign_turns(order);
  sort(order.begin(), order.end());
  return order;
}

void Scheduler::sort(Order::iterator begin, Order::iterator end) const {
  std::sort(begin, end, [&](const Request* a, const Request* b) { return before(*a, *b); });
}

void Scheduler::preempt(Request& r) {
  assert(r.place == Request::Place::kMemory && !r.in_step);
  const double to_disk = 2 * static_cast<double>(r.computed) * cost_.move_seconds_per_token;
  const double again = static_cast<double>(r.computed) * cost_.per_row_seconds;
  --counts_.running;
  --r.key->running;
  if (r.computed > 0 && to_disk < again && store_.move_out(r.id)) {
    r.place = Request::Place::kDisk;
    ++counts_.moved_out;
    ++counts_.preempted_to_disk;
    return;
  }
  store_.release(r.id);
  r.place = Request::Place::kQueue;
  ++counts_.queued;
  ++r.key->queued;
  counts_.preempted_to_recompute += r.computed > 0;  // of the others nothing is lost
  r.computed = 0;
}

bool Scheduler::make_room(const Order& order, const Request& keep) {
  for (auto at = order.rbegin(); at != order.rend() && *at != &keep; ++at)
    if ((*at)->here() && !(*at)->in_step) {
      preempt(**at);
      return true;
    }
  return false;
}

bool Scheduler::reserve(const Order& order, Request& r, int64_t tokens) {
  while (!store_.reserve(r.id, tokens))
    if (!make_room(order, r)) return false;
  return true;
}

void Scheduler::add_rows(Request& r, int64_t count, int64_t drafts, StepWork& work) {
  r.in_step = r.had_rows = true;
  r.step_count = count;
  r.step_outputs = r.computed + count == r.known;
  work.rows.push_back({.id = r.id, .first = r.computed, .count = count + drafts, .outputs = r.step_outputs, .drafts = drafts});
  work.n_rows += count + drafts;
  work.n_outputs += r.logs_prompt() ? count + drafts : r.step_outputs ? 1 + drafts : 0;
  for (int64_t i = 0; i < count + drafts; ++i) work.context += r.computed + i + 1;
}

void Scheduler::plan_streams(const Order& order, bool may_hold_back, StepWork& work) {
  // A newcomer's short prompt takes a step in which those who have much wait: their token comes a step later,
  // as it would at the end of a step with both, and the newcomer's first token sooner.
  const bool hold_back = may_hold_back && std::any_of(order.begin(), order.end(), [&](const Request* r) {
    return r->here() && !r->streams() && short_prompt(*r) && newcomer(*r->key);
  });
  for (Request* r : order) {
    // May have been preempted for one before it.
    r->held_back = hold_back && r->streams() && !r->held_back && !newcomer(*r->key);
    if (!r->streams() || r->held_back) continue;
    if (work.n_rows >= options_.max_step_rows) return;
    const int64_t room = std::min({options_.max_step_rows - work.n_rows - counts_.running, options_.max_step_outputs - work.n_outputs - counts_.running,
                                  r->spec.prompt_tokens + r->spec.max_new_tokens - 1 - r->known});
    // Guesses are not worth anybody's place.
    int64_t drafts = std::clamp<int64_t>(r->drafts, 0, std::max<int64_t>(room, 0));
    if (drafts > 0 && !store_.reserve(r->id, r->known + drafts)) drafts = 0;
    if (drafts == 0 && !reserve(order, *r, r->known)) {
      if (coming_ == 0) preempt(*r);  // else it has what it needs when that is there, and has given way
      continue;
    }
    add_rows(*r, 1, drafts, work);
  }
}

// A key's share of places or tokens, at least one.
double Scheduler::share(const Key& key, double of) const { return std::max(1.0, of * key.weight / active_weight_); }

// Who would give way to `r`, which has not what it needs in memory: the last in the order that is of a lesser level, or of its
// key and lesser priority, or of a key with more than its share of what is scarce while that of `r` has less.
Scheduler::Request* Scheduler::victim_for(const Order& order, const Request& r, Scarce scarce) const {
  std::map<const Key*, double> held;
  double all = static_cast<double>(options_.max_running);
  for (const Request* other : order)
    if (other->place == Request::Place::kMemory) held[other->key] += scarce == Scarce::kPlaces ? 1 : static_cast<double>(other->known);
  const double asks = r.place == Request::Place::kMemory ? 0 : scarce == Scarce::kPlaces ? 1 : static_cast<double>(r.known);
  if (scarce == Scarce::kPages) {
    all = asks;
    for (const auto& [key, tokens] : held) all += tokens;
  }
  const bool due = held[r.key] + asks <= share(*r.key, all);
  for (auto at = order.rbegin(); at != order.rend() && *at != &r; ++at) {
    Request& victim = **at;
    if (!victim.here() || victim.in_step) continue;
    if (victim.level < r.level || (victim.key == r.key && victim.priority < r.priority)) return &victim;
    if (victim.level == r.level && victim.key != r.key && due && held[victim.key] > share(*victim.key, all)) return &victim;
  }
  return nullptr;
}

// Preempts for `r`; a few in a plan at most, for what is taken from one is given to another only.
bool Scheduler::take_from_others(const Order& order, const Request& r, Scarce scarce) {
  if (preempted_for_others_ >= 4) return false;
  Request* victim = victim_for(order, r, scarce);
  if (!victim) return false;
  preempt(*victim);
  ++preempted_for_others_;
  return true;
}

// Room for all that is known of a request that has no rows in the step at hand yet.
bool Scheduler::reserve_from_others(const Order& order, const Request& r) {
  while (!store_.reserve(r.id, r.known))
    if (!take_from_others(order, r, Scarce::kPages)) return false;
  return true;
}

// Of a request that is coming: whether it is here.
void Scheduler::take_arrival(Request& r) {
  const StateStore::Arrival arrival = store_.arrival(r.id);
  if (arrival == StateStore::Arrival::kComing) return;
  r.coming = false;
  --coming_;
  if (arrival == StateStore::Arrival::kHere) return;
  r.place = Request::Place::kQueue;
  --counts_.running;
  --r.key->running;
  ++counts_.queued;
  ++r.key->queued;
  r.computed = 0;
  if (r.most_computed > 0 || r.cached == 0) return;
  // What was found of its prompt has to be computed after all.
  charge_prompt(r, r.cached);
  counts_.cached_tokens -= static_cast<uint64_t>(r.cached);
  r.cached = 0;
}

// State in memory for a request that has none there, with room for all that is known of it.
bool Scheduler::bring_in(const Order& order, Request& r) {
  if (counts_.running >= options_.max_running && !take_from_others(order, r, Scarce::kPlaces)) return false;
  if (r.place == Request::Place::kDisk) {
    StateStore::MoveIn moved;
    while ((moved = store_.move_in(r.id)) == StateStore::MoveIn::kNoRoom)
      if (!take_from_others(order, r, Scarce::kPages)) return false;
    --counts_.moved_out;
    ++counts_.resumed;
    if (moved == StateStore::MoveIn::kDone) {
      r.place = Request::Place::kMemory;
      ++counts_.running;
      ++r.key->running;
      r.coming = true;
      ++coming_;
      take_arrival(r);
      if (r.place == Request::Place::kMemory) return true;
    } else {
      r.place = Request::Place::kQueue;
      ++counts_.queued;
      ++r.key->queued;
      r.computed = 0;
    }
  }
  int64_t found = store_.attach(r.id);
  StateStore::Arrival arrival = store_.arrival(r.id);
  if (arrival == StateStore::Arrival::kLost) {
    found = store_.attach(r.id);  // it finds less
    arrival = store_.arrival(r.id);
  }
  if (arrival == StateStore::Arrival::kLost) {  // again: all of it is computed
    found = 0;
    arrival = StateStore::Arrival::kHere;
  }
  assert(found >= 0 && found < r.known && (found == 0 || !r.logs_prompt()));
  // What is coming has room made for the rest of it when it is there.
  if (arrival == StateStore::Arrival::kHere && !reserve_from_others(order, r)) {
    store_.release(r.id);
    return false;
  }
  r.coming = arrival == StateStore::Arrival::kComing;
  coming_ += r.coming;
  r.place = Request::Place::kMemory;
  --counts_.queued;
  --r.key->queued;
  ++counts_.running;
  ++r.key->running;
  r.computed = found;
  if (!r.charged) {
    // At once, so that the next place goes by what this one will take.
    r.charged = true;
    r.cached = found;
    counts_.cached_tokens += static_cast<uint64_t>(found);
    charge_prompt(r, r.spec.prompt_tokens - found);
  }
  return true;
}

// Brings in what has no state in memory, best first, as long as the running prompts of its key that go before it
// are not work enough for a step. Whoever finds no place, or no room, stops those after it: nobody is overtaken for being large.
void Scheduler::admit(Order& order) {
  std::map<const Key*, int64_t> waiting_rows;
  const auto rows = [&](const Request& r) {
    return r.streams() ? 0 : r.logs_prompt() ? std::min(r.missing(), options_.max_step_outputs) : r.missing();
  };
  for (size_t i = 0; i < order.size(); ++i) {
    Request& r = *order[i];
    if (r.place == Request::Place::kMemory) {
      waiting_rows[r.key] += rows(r);
      // What came from the disk may lack pages for the rest.
      if (r.here() && !r.streams() && !reserve_from_others(order, r)) return;
      continue;
    }
    if (waiting_rows[r.key] >= options_.max_step_rows) continue;
    const Request* first = r.spec.after ? find(r.spec.after) : nullptr;
    if (first && !first->started) continue;
    if (!bring_in(order, r)) return;
    waiting_rows[r.key] += rows(r);
    // It was charged: the next place goes by that.
    sort(order.begin() + static_cast<int64_t>(i) + 1, order.end());
  }
}

void Scheduler::plan_prompts(const Order& order, StepWork& work) {
  // By what they were given, not by what they were promised: a key that just came in goes first.
  Order prompts;
  for (Request* r : order)
    if (!r->in_step && !r->held_back && r->here()) prompts.push_back(r);
  std::sort(prompts.begin(), prompts.end(), [&](const Request* a, const Request* b) {
    const double given_a = a->key->given(), given_b = b->key->given();
    return a->level == b->level && a->key != b->key && given_a != given_b ? given_a < given_b : before(*a, *b);
  });
  const StepWork streams = work;
  bool first_token = false;  // of a newcomer comes from this step
  auto others = static_cast<int64_t>(prompts.size());
  for (Request* r : prompts) {
    --others;  // after it: each may reach its end, and draw
    if (!r->here()) continue;  // preempted for one before it
    int64_t left = std::min(options_.max_step_rows - work.n_rows, prompt_rows(*r, streams, work));
    // Nobody else's prompt makes it wait, but for what the weights are read for anyway.
    if (first_token) left = std::min(left, cost_.rows_within(2 * cost_.weights_seconds, work.n_rows, work.context, r->computed, left));
    if (r->logs_prompt())
      left = std::min(left, std::max<int64_t>(1, options_.max_step_outputs - work.n_outputs - others));
    if (left <= 0) continue;
    if (!reserve(order, *r, r->known)) continue;
    const int64_t count = std::min(left, r->missing());
    first_token |= r->missing() == count && newcomer(*r->key);
    add_rows(*r, count, 0, work);
  }
}

// A key with at most half of its share of the places, while another that was given no less has more than its own or
// waits for more.
bool Scheduler::newcomer(const Key& key) const {
  const auto places = static_cast<double>(options_.max_running);
  if (static_cast<double>(key.running) > std::max(1.0, share(key, places) / 2)) return false;
  return std::any_of(keys_.begin(), keys_.end(), [&](const auto& named) {
    const Key& other = named.second;
    return &other != &key && other.given() >= key.given() && (other.queued > 0 || static_cast<double>(other.running) > share(other, places));
  });
}

// Two long steps compute it: for a newcomer, one does.
bool Scheduler::short_prompt(const Request& r) const {
  return static_cast<double>(r.missing()) * cost_.per_row_seconds <= 2 * options_.long_step * cost_.weights_seconds;
}

// How many rows of a request's prompt may join the step at hand: by time.
int64_t Scheduler::prompt_rows(const Request& r, const StepWork& streams, const StepWork& work) const {
  const double alone = cost_.seconds(streams.n_rows, streams.context), long_step = options_.long_step * cost_.weights_seconds;
  double limit = streams.n_rows > 0 ? options_.stretch * alone : long_step;
  if (newcomer(*r.key)) limit = std::max(limit, short_prompt(r) ? alone + 2 * long_step : options_.newcomer_stretch * alone);
  const int64_t left = options_.max_step_rows - work.n_rows;
  const int64_t fits = cost_.rows_within(limit, work.n_rows, work.context, r.computed + std::min(r.missing(), left) / 2, left);
  // Prompts get on even where the model sees no time for them.
  return std::max(fits, options_.min_prompt_rows - (work.n_rows - streams.n_rows));
}

StepWork Scheduler::plan(double now) {
  assert(!in_step_);
  now_ = now;
  preempted_for_others_ = 0;
  for (const auto& [id, r] : requests_)
    if (r->coming) take_arrival(*r);
  StepWork work;
  Order order = ordered();
  active_weight_ = 0;
  for (const auto& [name, key] : keys_)
    if (key.requests > 0) active_weight_ += key.weight;
  admit(order);
  plan_streams(order, true, work);
  work.predicted_seconds = cost_.seconds(work.n_rows, work.context);
  plan_prompts(order, work);
  if (work.rows.empty()) plan_streams(order, false, work);  // the prompt that they were held back for found no room
  work.predicted_seconds = cost_.seconds(work.n_rows, work.context);
  step_rows_ = work.n_rows;
  step_context_ = work.context;
  in_step_ = !work.rows.empty();
  return work;
}

// ---- after a step -------------------------------------------------------------------------------

void Scheduler::charge(Request& r, double tokens) { r.key->counter += tokens / r.key->weight; }

void Scheduler::charge_prompt(Request& r, int64_t tokens) {
  const double more = options_.prompt_charge * static_cast<double>(tokens) / r.key->weight;
  r.key->counter += more;
  r.key->pending += more;
  r.pending += more;
}

void Scheduler::complete(const std::vector<StepOutcome>& outcomes, double seconds) {
  assert(in_step_);
  in_step_ = false;
  cost_.observe(step_rows_, step_context_, seconds);
  for (const StepOutcome& o : outcomes) {
    Request& r = *find(o.id);
    assert(r.in_step);
    r.in_step = false;
    r.drafts = 0;
    if (r.cancelled) {
      end(r.id);
      continue;
    }
    if (o.failed) {
      ++counts_.failed;
      end(r.id);
      continue;
    }
    // Of the guesses, those that held are computed: all that was drawn but the last.
    assert(o.ended || r.step_outputs == (o.new_tokens > 0));
    const int64_t before_step = r.computed;
    r.computed += r.step_outputs ? r.step_count + o.new_tokens - 1 : r.step_count;
    const int64_t fresh = std::max<int64_t>(0, std::min(r.computed, r.spec.prompt_tokens) - std::max(before_step, r.most_computed));
    counts_.recomputed_tokens += static_cast<uint64_t>(std::max<int64_t>(0, std::min(r.computed, r.most_computed) - before_step));
    counts_.prompt_tokens += static_cast<uint64_t>(fresh);
    counts_.output_tokens += static_cast<uint64_t>(o.new_tokens);
    r.most_computed = std::max(r.most_computed, r.computed);
    if (fresh > 0) {
      // In ratio: the cache may have found more or less of it than when it was charged, and the weight been another.
      const int64_t left = std::max<int64_t>(0, r.spec.prompt_tokens - r.most_computed);
      const double given = r.pending * static_cast<double>(fresh) / static_cast<double>(fresh + left);
      r.pending -= given;
      r.key->pending -= given;
    }
    charge(r, options_.output_charge * static_cast<double>(o.new_tokens));
    if (o.new_tokens > 0) {
      r.started = true;
      r.known += o.new_tokens;
    }
    if (o.ended) {
      ++counts_.finished;
      answer_share_ += 0.05 * (static_cast<double>(r.known - r.spec.prompt_tokens) / static_cast<double>(r.spec.max_new_tokens) - answer_share_);
      end(r.id);
    }
  }
}

bool Scheduler::idle() const { return requests_.empty(); }

std::optional<RequestView> Scheduler::view(RequestId id) const {
  const Request* r = find(id);
  if (!r || r->cancelled) return std::nullopt;
  RequestPhase phase = RequestPhase::kQueued;
  if (r->place == Request::Place::kDisk) phase = RequestPhase::kMovedOut;
  if (r->place == Request::Place::kMemory) phase = r->started && r->missing() <= 1 ? RequestPhase::kStream : RequestPhase::kPrompt;
  return RequestView{phase, r->computed, r->known, r->cached, r->arrived};
}

double Scheduler::served(std::string_view key) const {
  const auto at = keys_.find(key);
  return at == keys_.end() ? 0 : at->second.counter;
}

}  // namespace venturi
