#include "engine/service.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <iterator>
#include <limits>

#include "base/clock.h"
#include "engine/request_store.h"

namespace venturi {

struct Service::Request {
  Ticket ticket = 0;
  Submission asked;
  Sampler sampler;
  std::shared_ptr<const Listener> listener;  // of its group
  std::vector<TokenId> tokens;  // prompt and drawn
  std::vector<TokenId> guesses = {};  // of what comes next, in the step at hand
  std::vector<DrawnToken> drawn = {};  // in the step at hand
  std::optional<Error> failure = {};   // of the draw after those
  int64_t prompt_tokens = 0;
  int64_t cached_tokens = 0;  // to be told with the next token
  RequestTimes times;
  std::vector<DrawnToken> logged = {};  // of the prompt, from its second token on, as asked for

  RequestReport report(Finish why) const {
    return {why, prompt_tokens, static_cast<int64_t>(tokens.size()) - prompt_tokens, times};
  }
  // Nothing of it is drawn yet.
  bool logs_prompt() const { return asked.prompt_logprobs >= 0 && static_cast<int64_t>(tokens.size()) == prompt_tokens; }
};

namespace {

// Before any step: what a token attended costs beside a row, by their multiply-adds. Attention's are in f32 and
// stream the state, at about a quarter of the rate.
StepCost first_cost(const Engine& engine) {
  StepCost cost;
  const auto macs = [&](int64_t position) {
    double n = 0;
    for (const OpCost& op : engine.costs(1, position, 0)) n += static_cast<double>(op.int8_macs + op.f32_macs);
    return n;
  };
  const int64_t far = engine.options().context - 1;
  if (far <= 0) return cost;
  const double near = macs(0);
  cost.per_context_seconds = 4 * cost.per_row_seconds * (macs(far) - near) / static_cast<double>(far) / std::max(near, 1.0);
  return cost;
}

}  // namespace

Service::Service(Engine& engine, const Tokenizer& tokenizer, const ServiceOptions& options)
    : engine_(engine), tokenizer_(tokenizer), observer_(options.observer), speculator_(options.speculator), turn_(options.turn),
      store_(std::make_unique<RequestStore>(engine, [this](RequestId id) { return known(id); })) {
  SchedulerOptions o = options.scheduler;
  o.max_running =
      std::min<int64_t>({o.max_running, engine.options().sequences, engine.options().outputs});
  o.max_step_rows =
      std::max<int64_t>(o.max_running, std::min(o.max_step_rows, engine.options().batch));
  o.max_step_outputs = engine.options().outputs;
  max_running_ = o.max_running;
  largest_group_ = Scheduler::largest_group(o);
  scheduler_ = std::make_unique<Scheduler>(o, options.cost ? *options.cost : first_cost(engine), *store_);
  const int64_t shared = engine.state_pool().shared_pages();
  at_work_.state_capacity =
      shared > 0 ? shared * kPageTokens : o.max_running * engine.options().context;
}

std::optional<KnownRequest> Service::known(RequestId id) const {
  const auto at = requests_.find(id);
  if (at == requests_.end()) return std::nullopt;
  const Request& r = *at->second;
  return KnownRequest{.tokens = r.tokens, .adapter = r.asked.adapter, .logs_prompt = r.logs_prompt()};
}

Result<std::unique_ptr<Service>> Service::start(Engine& engine, const ServiceOptions& options) {
  if (engine.info().embeds)
    return error(Code::kUnsupported, "{} gives embeddings, not text", engine.file().path);
  TRY(check_speculation(engine, options.speculator.get()));
  const Tokenizer* tokenizer = TRY(engine.tokenizer());
  std::unique_ptr<Service> service(new Service(engine, *tokenizer, options));
  service->publish();
  engine.touch_state_ahead();
  service->thread_ = std::thread([s = service.get()] { s->loop(); });
  return service;
}

Service::~Service() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

Status Service::check(const Submission& submission) const {
  if (submission.prompt.empty()) return error(Code::kInvalidArgument, "the prompt has no tokens");
  for (const TokenId id : submission.prompt)
    if (id < 0 || id >= engine_.info().vocab_size)
      return error(Code::kInvalidArgument, "token id {} is outside the vocabulary of {}", id,
                   engine_.info().vocab_size);
  if (submission.max_new_tokens < 1)
    return error(Code::kInvalidArgument, "max_tokens is {}; it must be 1 or more",
                 submission.max_new_tokens);
  return {};
}

Result<Ticket> Service::submit(Submission submission, Listener listener) {
  std::vector<Submission> alone;
  alone.push_back(std::move(submission));
  return submit(std::move(alone), std::move(listener));
}

Result<Ticket> Service::submit(std::vector<Submission> group, Listener listener) {
  assert(!group.empty());
  std::vector<Sampler> samplers;
  for (const Submission& submission : group) {
    TRY(check(submission));
    samplers.push_back(TRY(Sampler::create(submission.sampling)));
  }
  auto shared = std::make_shared<const Listener>(std::move(listener));
  const std::lock_guard lock(mutex_);
  const Ticket first = next_ticket_;
  next_ticket_ += group.size();
  arrivals_.push_back({first, std::move(group), std::move(samplers), std::move(shared), now_seconds(), draining_});
  is_idle_ = false;
  wake_.notify_one();
  return first;
}

void Service::cancel(Ticket ticket, Finish why) {
  const std::lock_guard lock(mutex_);
  cancels_.push_back({ticket, why});
  wake_.notify_one();
}

void Service::add(std::unique_ptr<Chore> chore) {
  const std::lock_guard lock(mutex_);
  new_chores_.push_back(std::move(chore));
  is_idle_ = false;
  wake_.notify_one();
}

bool Service::drain(double seconds) {
  std::unique_lock lock(mutex_);
  draining_ = true;
  wake_.notify_one();
  return idle_.wait_for(lock, std::chrono::duration<double>(seconds), [&] { return is_idle_; });
}

ServiceCounts Service::counts() const {
  const std::lock_guard lock(mutex_);
  return counts_;
}

void Service::publish() {
  PrefixCache* const cache = engine_.prefix_cache();
  if (cache) cache->clean();
  at_work_.scheduler = scheduler_->counts();
  at_work_.state_tokens = store_->tokens();
  if (speculator_) at_work_.speculation = speculator_->counts();
  if (cache) {
    const PrefixCacheCounters c = cache->counters();
    const uint64_t moved =
        c.written_bytes + c.read_bytes - at_work_.state_written_bytes - at_work_.state_read_bytes;
    const double per_token = static_cast<double>(engine_.footprint().state) /
                             static_cast<double>(at_work_.state_capacity);
    scheduler_->observe_move(static_cast<int64_t>(static_cast<double>(moved) / per_token),
                             c.file_seconds - std::exchange(moved_seconds_, c.file_seconds));
    at_work_.state_written_bytes = c.written_bytes;
    at_work_.state_read_bytes = c.read_bytes;
  }
  const std::lock_guard lock(mutex_);
  counts_ = at_work_;
}

void Service::loop() {
  for (;;) {
    std::deque<Arrival> arrivals;
    std::deque<Cancel> cancels;
    {
      std::unique_lock lock(mutex_);
      if (scheduler_->idle() && arrivals_.empty() && new_chores_.empty() && chores_.empty()) {
        is_idle_ = true;
        idle_.notify_all();
        wait(lock, engine_.prefix_cache() && engine_.prefix_cache()->busy());
      }
      if (stopping_) break;
      arrivals.swap(arrivals_);
      cancels.swap(cancels_);
      std::move(new_chores_.begin(), new_chores_.end(), std::back_inserter(chores_));
      new_chores_.clear();
    }
    auto turn = take_turn(turn_.get());
    const double begin = now_seconds(), told_before = at_work_.tell_seconds;
    take_in(arrivals, cancels);
    speculate();
    const StepWork work = scheduler_->plan(now_seconds());
    if (!work.rows.empty()) {
      const double engine_before = at_work_.engine_seconds;
      run(work);
      const double seconds = now_seconds() - begin;
      ++at_work_.steps;
      at_work_.step_seconds += seconds;
      if (observer_)
        observer_->step({.rows = work.n_rows,
                         .predicted_seconds = work.predicted_seconds,
                         .engine_seconds = at_work_.engine_seconds - engine_before,
                         .seconds = seconds,
                         .work = work.rows});
    } else {
      at_work_.tell_seconds = told_before;  // no part of a step
    }
    do_chores();
    publish();
    if (work.rows.empty() && !scheduler_->idle() && chores_.empty()) {  // all there is comes from the disk
      if (turn) turn.unlock();
      std::unique_lock lock(mutex_);
      wait(lock, true);
    }
  }
  chores_.clear();
  while (!requests_.empty()) {
    const RequestId id = requests_.begin()->first;
    scheduler_->cancel(id);
    finish(id, Finish::kCancelled, {}, {});
  }
  std::deque<Arrival> left;
  std::vector<std::unique_ptr<Chore>> undone;
  {
    const std::lock_guard lock(mutex_);
    left.swap(arrivals_);
    undone.swap(new_chores_);
    is_idle_ = true;
    idle_.notify_all();
  }
  for (const Arrival& a : left)
    for (size_t i = 0; i < a.group.size(); ++i) (*a.listener)({.ticket = a.first + i, .finish = Finish::kCancelled});
}

// For something to do; while the disk is at work, in little steps.
void Service::wait(std::unique_lock<std::mutex>& lock, bool disk) {
  const auto called = [&] { return stopping_ || !arrivals_.empty() || !cancels_.empty() || !new_chores_.empty(); };
  if (disk) {
    wake_.wait_for(lock, std::chrono::milliseconds(1), called);
  } else {
    wake_.wait(lock, called);
  }
}

void Service::take_in(std::deque<Arrival>& arrivals, const std::deque<Cancel>& cancels) {
  for (Arrival& arrival : arrivals) take_in(arrival);
  for (const Cancel& cancel : cancels) {
    const auto at = ids_.find(cancel.ticket);
    if (at == ids_.end()) continue;
    const RequestId id = at->second;
    scheduler_->cancel(id);
    finish(id, cancel.why, {}, {});
  }
}

void Service::take_in(Arrival& arrival) {
  const auto refuse = [&](Refusal refusal) {
    (*arrival.listener)({.ticket = arrival.first, .finish = Finish::kRefused, .refusal = std::move(refusal)});
  };
  if (arrival.late) return refuse({Refusal::Why::kQueueFull, 1, "the server is shutting down"});
  std::vector<RequestSpec> specs;
  for (const Submission& asked : arrival.group) {
    specs.push_back({.key = asked.key,
                     .weight = asked.weight,
                     .priority = asked.priority,
                     .max_priority = asked.max_priority,
                     .prompt_tokens = static_cast<int64_t>(asked.prompt.size()),
                     .max_new_tokens = asked.max_new_tokens,
                     .prompt_outputs = asked.prompt_logprobs >= 0,
                     .after = 0});
    if (asked.same_prompt >= 0 && asked.same_prompt < std::ssize(specs) - 1 && asked.prompt_logprobs < 0 && engine_.prefix_cache())
      specs.back().after = scheduler_->next_id() + static_cast<RequestId>(asked.same_prompt);
  }
  const auto [first, refusal] = scheduler_->submit(specs, now_seconds());
  if (refusal) return refuse(*refusal);
  for (size_t i = 0; i < arrival.group.size(); ++i) {
    auto request = std::make_unique<Request>(Request{.ticket = arrival.first + i,
                                                     .asked = std::move(arrival.group[i]),
                                                     .sampler = std::move(arrival.samplers[i]),
                                                     .listener = arrival.listener,
                                                     .tokens = {},
                                                     .times = {.submitted = arrival.submitted}});
    request->tokens = std::move(request->asked.prompt);
    request->prompt_tokens = static_cast<int64_t>(request->tokens.size());
    for (const TokenId token : request->tokens) request->sampler.accept_prompt(token);
    ids_[request->ticket] = first + i;
    const Request& there = *(requests_[first + i] = std::move(request));
    tell(there, {.ticket = there.ticket, .times = there.times});
  }
}

void Service::do_chores() {
  std::erase_if(chores_, [&](const auto& chore) { return chore->some(engine_); });
}

// Guesses for the streams of a step that has nothing else: beside prompts every row is dear.
void Service::speculate() {
  if (!speculator_) return;
  std::vector<Guessing> streams;
  const SchedulerCounts& counts = scheduler_->counts();
  bool prompts = counts.queued > 0 && counts.running < max_running_;
  for (const auto& [id, r] : requests_) {
    r->guesses.clear();
    const auto view = scheduler_->view(id);
    prompts |= view && view->phase == RequestPhase::kPrompt;
    if (!view || view->phase != RequestPhase::kStream) continue;
    const auto known = static_cast<int64_t>(r->tokens.size());
    streams.push_back({.stream = id, .tokens = r->tokens, .sampler = &r->sampler, .position = r->tokens.size(), .most = r->prompt_tokens + r->asked.max_new_tokens - 1 - known});
  }
  if (!prompts && !streams.empty()) {
    speculator_->guess(streams, scheduler_->cost());
    for (Guessing& s : streams) requests_.at(s.stream)->guesses = std::move(s.guesses);
  }
  // Of all, for one may have had some for a step that it was not in.
  for (const auto& [id, r] : requests_) scheduler_->set_drafts(id, static_cast<int64_t>(r->guesses.size()));
}

void Service::run(const StepWork& work) {
  std::vector<StepOutcome> outcomes;
  const double seconds = run(work.rows, outcomes);
  scheduler_->complete(outcomes, seconds);
}

// Of rows whose step fails, those fail that fail by themselves: a disk that has lost one request's
// state, or has no room for it, is not the others' concern.
double Service::run(std::span<const StepWork::Rows> work, std::vector<StepOutcome>& outcomes) {
  Step step;
  for (const StepWork::Rows& rows : work) {
    Request& r = *requests_.at(rows.id);
    if (r.times.started == 0) r.times.started = now_seconds();
    step.spans.push_back({.row_begin = step.n_rows(),
                          .n_rows = rows.count,
                          .position = rows.first,
                          .state = store_->state(rows.id),
                          .adapter = r.asked.adapter});
    step.tokens.insert(step.tokens.end(), r.tokens.begin() + rows.first,
                       r.tokens.begin() + rows.first + rows.count - rows.drafts);
    step.tokens.insert(step.tokens.end(), r.guesses.begin(), r.guesses.begin() + rows.drafts);
    for (const int64_t position : output_rows(rows))
      step.output_rows.push_back(step.spans.back().row_begin + position - rows.first);
  }
  const double begin = now_seconds();
  const auto logits = engine_.step(step);
  const double seconds = now_seconds() - begin;
  at_work_.engine_seconds += seconds;
  if (!logits && work.size() > 1 && engine_.repeats()) {
    double all = seconds;
    for (size_t i = 0; i < work.size(); ++i) all += run(work.subspan(i, 1), outcomes);
    return all;
  }
  if (!logits) {
    for (const StepWork::Rows& rows : work) {
      outcomes.push_back({.id = rows.id, .failed = true});
      finish(rows.id, Finish::kFailed, {}, logits.error());
    }
    return seconds;
  }
  std::vector<int64_t> ends;  // of each one's rows of logits; what is logged or drawn changes what is wanted
  int64_t row = 0;
  for (const StepWork::Rows& rows : work) {
    ends.push_back(row + static_cast<int64_t>(output_rows(rows).size()));
    log_prompt(*requests_.at(rows.id), rows, **logits, row);
    row = ends.back();
  }
  draw(work, ends, **logits);
  for (const StepWork::Rows& rows : work) {
    if (rows.outputs) {
      outcomes.push_back(settle(rows));
    } else {
      store_->publish(rows.id, false);
      outcomes.push_back({.id = rows.id});
    }
  }
  return seconds;
}

namespace {

// Logarithms of the softmax of a row: of `id`, and of the `n` likeliest.
void add_logprobs(DrawnToken& token, std::span<const float> logits, int n) {
  const float most = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float x : logits) sum += std::exp(static_cast<double>(x) - most);
  const double log_sum = most + std::log(sum);
  token.logprob = logits[token.id] - log_sum;
  std::vector<TokenId> ids(logits.size());
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<TokenId>(i);
  n = std::min<int>(n, static_cast<int>(ids.size()));
  std::partial_sort(ids.begin(), ids.begin() + n, ids.end(), [&](TokenId a, TokenId b) {
    return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
  });
  for (int i = 0; i < n; ++i) token.top.emplace_back(ids[i], logits[ids[i]] - log_sum);
}

}  // namespace

// Positions among the rows whose logits are wanted: of the prompt, where they are logged and were not
// before its state was taken away, and the last, where a token is drawn, with that before each guess.
std::vector<int64_t> Service::output_rows(const StepWork::Rows& rows) const {
  std::vector<int64_t> positions;
  const Request& r = *requests_.at(rows.id);
  const int64_t end = rows.first + rows.count;
  if (r.logs_prompt())
    for (int64_t p = std::max(rows.first, static_cast<int64_t>(r.logged.size())); p < std::min(end, r.prompt_tokens - 1); ++p)
      positions.push_back(p);
  if (rows.outputs)
    for (int64_t p = end - 1 - rows.drafts; p < end; ++p) positions.push_back(p);
  return positions;
}

void Service::log_prompt(Request& r, const StepWork::Rows& rows, const Act& logits, int64_t row) {
  if (!r.logs_prompt()) return;
  if (rows.first == 0) r.logged.clear();  // it gave way, and begins again
  for (const int64_t position : output_rows(rows)) {
    if (position >= r.prompt_tokens - 1) return;
    DrawnToken token{.id = r.tokens[position + 1]};
    add_logprobs(token, {logits.row(row++), static_cast<size_t>(logits.cols())}, r.asked.prompt_logprobs);
    r.logged.push_back(std::move(token));
  }
}

// The tokens of a step. Those of different requests do not depend on each other: the engine's threads share them out.
void Service::draw(std::span<const StepWork::Rows> work, std::span<const int64_t> ends, const Act& logits) {
  const double begin = now_seconds();
  struct Draw {
    Request* request;
    int64_t guesses, row;
  };
  std::vector<Draw> draws;
  for (size_t i = 0; i < work.size(); ++i)
    if (work[i].outputs) draws.push_back({requests_.at(work[i].id).get(), work[i].drafts, ends[i] - 1 - work[i].drafts});
  ThreadPool& threads = engine_.threads();
  masked_.resize(static_cast<size_t>(threads.size()));
  threads.parallel_for(static_cast<int64_t>(draws.size()), 1, [&](int64_t first, int64_t end, int worker) {
    for (int64_t i = first; i < end; ++i) draw(*draws[i].request, draws[i].guesses, logits, draws[i].row, masked_[worker]);
  });
  at_work_.draw_seconds += now_seconds() - begin;
}

// Draws after the last token that is known, and after every guess that the draw before it was.
void Service::draw(Request& r, int64_t guesses, const Act& logits, int64_t row, std::vector<float>& masked) const {
  r.drawn.clear();
  for (int64_t i = 0; i <= guesses; ++i) {
    auto token = draw_token(r, {logits.row(row + i), static_cast<size_t>(logits.cols())}, masked);
    if (!token) {
      r.failure = std::move(token).error();
      return;
    }
    const bool last = i == guesses || token->id != r.guesses[i] || end_of(r, *token) != Finish::kNone;
    r.drawn.push_back(std::move(*token));
    if (last) return;
  }
}

Result<DrawnToken> Service::draw_token(Request& r, std::span<const float> logits, std::vector<float>& masked) const {
  std::span<const float> allowed = logits;
  if (r.asked.constraint) {
    masked.assign(logits.begin(), logits.end());
    TRY(r.asked.constraint->mask(masked));
    allowed = masked;
  }
  const TokenId id = TRY(r.sampler.sample(allowed, r.tokens.size()));
  r.sampler.accept(id);
  if (r.asked.constraint) TRY(r.asked.constraint->accept(id));
  r.tokens.push_back(id);
  DrawnToken token{.id = id, .ends = !r.asked.ignore_end && tokenizer_.is_end_of_generation(id)};
  if (r.asked.top_logprobs >= 0) add_logprobs(token, logits, r.asked.top_logprobs);
  return token;
}

// What was drawn is told, and what was computed for other guesses is forgotten.
StepOutcome Service::settle(const StepWork::Rows& rows) {
  Request& r = *requests_.at(rows.id);
  const std::vector<DrawnToken> drawn = std::exchange(r.drawn, {});
  const std::optional<Error> failure = std::exchange(r.failure, {});
  const auto n = static_cast<int64_t>(drawn.size());
  if (rows.drafts > 0) {
    // The last token drawn is not computed, whether it was guessed or not.
    store_->truncate(rows.id, std::min(rows.first + rows.count, static_cast<int64_t>(r.tokens.size()) - 1));
    int64_t held = 0;
    while (held < std::min(n, rows.drafts) && drawn[held].id == r.guesses[held]) ++held;
    speculator_->learn(rows.id, rows.drafts, held);
  }
  store_->publish(rows.id, false);
  Finish why = Finish::kNone;
  if (n > 0 && !failure) why = end_of(r, drawn.back());
  for (int64_t i = 0; i < n; ++i) tell_token(rows.id, drawn[i], i + 1 < n ? Finish::kNone : why);
  if (failure) finish(rows.id, Finish::kFailed, {}, failure);
  return {.id = rows.id, .new_tokens = n, .ended = why != Finish::kNone, .failed = failure.has_value()};
}

Finish Service::end_of(const Request& r, const DrawnToken& token) const {
  if (token.ends || (r.asked.constraint && r.asked.constraint->finished())) return Finish::kEnd;
  const int64_t drawn = static_cast<int64_t>(r.tokens.size()) - r.prompt_tokens;
  return drawn >= r.asked.max_new_tokens ? Finish::kLength : Finish::kNone;
}

void Service::tell_token(RequestId id, DrawnToken token, Finish why) {
  Request& r = *requests_.at(id);
  const double now = now_seconds(), last = std::exchange(r.times.last_token, now);
  const bool first = r.times.first_token == 0;
  if (first) {
    r.times.first_token = now;
    if (observer_) observer_->first_token(r.report(Finish::kNone));
    if (const auto view = scheduler_->view(id)) r.cached_tokens = view->cached;
    if (engine_.prefix_cache() || engine_.kept_states()) {
      at_work_.prefix_queries += static_cast<uint64_t>(r.prompt_tokens);
      at_work_.prefix_hits += static_cast<uint64_t>(r.cached_tokens);
    }
  } else if (observer_) {
    observer_->next_token(now - last);
  }
  if (why != Finish::kNone) return finish(id, why, std::move(token), {});
  tell(r, {.ticket = r.ticket,
           .token = std::move(token),
           .cached_tokens = std::exchange(r.cached_tokens, 0),
           .prompt = first ? std::exchange(r.logged, {}) : std::vector<DrawnToken>{},
           .times = r.times});
}

void Service::finish(RequestId id, Finish why, std::optional<DrawnToken> token,
                     std::optional<Error> error) {
  const auto at = requests_.find(id);
  store_->publish(id, true);
  const std::unique_ptr<Request> r = std::move(at->second);
  requests_.erase(at);
  ids_.erase(r->ticket);
  if (speculator_) speculator_->forget(id);
  r->times.ended = now_seconds();
  if (observer_) observer_->ended(r->report(why));
  tell(*r, {.ticket = r->ticket,
            .token = std::move(token),
            .finish = why,
            .error = std::move(error),
            .cached_tokens = r->cached_tokens,
            .prompt = std::move(r->logged),
            .times = r->times});
}

void Service::tell(const Request& r, const Update& update) {
  const double begin = now_seconds();
  (*r.listener)(update);
  at_work_.tell_seconds += now_seconds() - begin;
}

}  // namespace venturi
