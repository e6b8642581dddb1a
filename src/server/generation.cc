#include "server/generation.h"

#include <algorithm>
#include <deque>

#include "chat/tools/tool_parser.h"

namespace venturi::server {

std::string random_id(std::string_view prefix) {
  static thread_local std::random_device device;
  static constexpr char kLetters[] = "abcdefghijklmnopqrstuvwxyz0123456789";
  std::string id(prefix);
  for (int i = 0; i < 24; ++i) id += kLetters[device() % 36];
  return id;
}

Json Usage::json() const {
  return {{"prompt_tokens", prompt},
          {"completion_tokens", completion},
          {"total_tokens", prompt + completion},
          {"prompt_tokens_details", {{"cached_tokens", cached}}}};
}

std::optional<Json> ToolCall::object() const {
  Json read = Json::parse(arguments, nullptr, false);
  if (read.is_object()) return read;
  if (whole) return Json::object();
  return std::nullopt;
}

std::vector<AnswerPiece> Answer::pieces() const {
  std::vector<AnswerPiece> pieces;
  size_t said = 0;
  const auto say = [&](size_t end) {
    if (end > said) pieces.push_back({text.substr(said, end - said)});
    said = end;
  };
  for (const ToolCall& call : calls) {
    say(call.text_before);
    pieces.push_back({"", &call});
  }
  say(text.size());
  if (pieces.empty()) pieces.push_back({});
  return pieces;
}

namespace {

// ---- what an answer takes beside the model's state ----

constexpr uint64_t kAnswerBytes = 4 << 10, kTokenBytes = 4, kTextBytes = 12;  // of an answer; of a token; of its text
// Of a token's log-probability: as text, and once more while the whole is put together. Usually less.
constexpr uint64_t kLoggedBytes = 2 * 70;
constexpr uint64_t kMatcherBytes = 64 << 10;

uint64_t bytes_of(const GenerationRequest& r, int64_t context) {
  uint64_t each = kAnswerBytes, all = 0;
  for (const std::string& stop : r.stops) each += stop.size();
  if (r.grammar) each += kMatcherBytes;
  const auto logged = static_cast<uint64_t>(r.top_logprobs + 1) * kLoggedBytes;  // top_logprobs is -1 where there are none
  for (const auto& prompt : r.prompts) {
    const auto known = static_cast<uint64_t>(prompt.size());
    const uint64_t drawn = r.max_tokens > 0 ? static_cast<uint64_t>(r.max_tokens) : static_cast<uint64_t>(context) - known + 1;
    uint64_t bytes = each + (known + drawn) * kTokenBytes + drawn * kTextBytes;
    if (!r.stream && !r.no_answer) bytes += drawn * (r.top_logprobs >= 0 ? logged + kLoggedBytes : 0);
    if (r.prompt_logprobs) bytes += known * (logged + kLoggedBytes);
    all += bytes * static_cast<uint64_t>(r.n);
  }
  return all;
}

// An automaton with the room that it takes, which is held as long as anything uses it.
std::shared_ptr<const grammar::Automaton> kept(std::shared_ptr<const grammar::Automaton> automaton, Allowance::Share room) {
  struct Kept {
    std::shared_ptr<const grammar::Automaton> automaton;
    Allowance::Share room;
  };
  const auto both = std::make_shared<Kept>(Kept{std::move(automaton), std::move(room)});
  return {both, both->automaton.get()};
}

ApiError no_room(uint64_t bytes) {
  return {.status = 503,
          .type = "server_error",
          .message = fmt::format("what is being answered to others leaves no room for this answer, which may take {} bytes; ask again", bytes),
          .retry_after_seconds = 1};
}
ApiError never_room(uint64_t bytes) {
  return {.message = fmt::format("this answer may take {} bytes, for which there is never room; ask for fewer answers, tokens or log-probabilities", bytes),
          .param = "max_tokens"};
}

class Generation : public std::enable_shared_from_this<Generation> {
 public:
  // `room`: bytes_of() them.
  Generation(Call call, GenerationRequest request, std::unique_ptr<AnswerFormat> format, Allowance::Share room)
      : app_(call.app),
        target_(std::move(call.target)),
        exchange_(std::move(call.exchange)),
        r_(std::move(request)),
        format_(std::move(format)),
        room_(std::move(room)),
        time_(exchange_->request().arrived) {}

  void start(const Account& account) {
    const int total = static_cast<int>(r_.prompts.size()) * r_.n;
    answers_.resize(total);
    unsaid_.resize(total);
    waiting_ = open_ = total;
    const bool tools = r_.tools.offered();
    const bool opened = r_.tools.must && !chat::tool_opening(*target_->tool_format).empty();
    for (int i = 0; i < total; ++i) {
      streams_.emplace_back(*target_->tokenizer, r_.stops, tools ? target_->tool_marks : std::vector<TokenId>{});
      if (tools) parsers_.push_back(std::make_unique<chat::ToolParser>(*target_->tool_format, r_.tools.names, opened));
    }
    exchange_->on_close([self = shared_from_this()] {
      if (!self->done_) self->cancel();
    });
    if (done_) return;  // it has gone already
    exchange_->on_cut_off([self = shared_from_this()] { self->fail(shutting_down()); });
    usage_.tells_timings = r_.timings;
    for (const auto& prompt : r_.prompts) usage_.prompt += static_cast<int64_t>(prompt.size());
    std::vector<Submission> group;
    for (int i = 0; i < total; ++i) group.push_back(submission(i, account));
    // No update is looked at before this returns: it comes on this thread.
    auto first = target_->service->submit(std::move(group), [self = shared_from_this()](const Update& update) {
      self->exchange_->post([self, update] { self->take(static_cast<int>(update.ticket - self->first_), update); });
    });
    if (!first) return fail(api_error(first.error()));
    first_ = *first;
  }

 private:
  Submission submission(int i, const Account& account) {
    Submission s;
    s.prompt = r_.prompts[i / r_.n];
    if (i % r_.n > 0) s.same_prompt = i - i % r_.n;
    s.max_new_tokens = r_.max_tokens > 0 ? r_.max_tokens
                                         : target_->engine->options().context -
                                               static_cast<int64_t>(s.prompt.size()) + 1;
    s.sampling = r_.sampling;
    s.sampling.seed += static_cast<uint64_t>(i % r_.n);
    s.ignore_end = r_.ignore_end;
    s.top_logprobs = r_.top_logprobs;
    if (r_.prompt_logprobs) s.prompt_logprobs = r_.top_logprobs;
    if (!target_.adapter.empty()) s.adapter = target_->engine->adapters().find(target_.adapter);
    s.key = account.name;
    s.weight = account.weight;
    s.priority = r_.priority;
    s.max_priority = account.max_priority;
    if (r_.grammar) s.constraint = std::make_unique<grammar::Constraint>(r_.grammar, target_->trie);
    return s;
  }

  // Nothing is sent before all are taken in: until then the whole request may be refused.
  void take(int i, const Update& update) {
    if (done_) return;
    if (i % r_.n == 0) usage_.cached += update.cached_tokens;  // a prompt counts once
    if (update.finish == Finish::kRefused) return fail(refusal(*update.refusal));
    if (waiting_ > 0) {
      if (!update.token && update.finish == Finish::kNone) {
        if (--waiting_ == 0) begin();
      } else {
        early_.emplace_back(i, update);
      }
      return;
    }
    go_on(i, update);
  }

  ApiError refusal(const Refusal& why) const {
    if (why.why == Refusal::Why::kNever)
      return {.message = why.message, .code = "context_length_exceeded"};
    if (app_.draining)
      return {.status = 503,
              .type = "server_error",
              .message = why.message,
              .retry_after_seconds = why.retry_after_seconds};
    return {.status = 429,
            .type = "rate_limit_error",
            .message = why.message,
            .code = "rate_limit_exceeded",
            .retry_after_seconds = std::max(1.0, why.retry_after_seconds)};
  }

  void begin() {
    if (r_.stream) {
      begun_ = true;
      exchange_->begin(format_->stream_type());
      for (size_t i = 0; i < answers_.size(); ++i)
        send([&] { return format_->first(static_cast<int>(i), usage_); });
    }
    for (const auto& [i, update] : std::exchange(early_, {})) go_on(i, update);
  }

  void go_on(int i, const Update& update) {
    Answer& answer = answers_[i];
    if (done_ || !answer.finish.empty()) return;  // what is drawn after a stop text
    if (update.finish == Finish::kFailed) return fail(api_error(*update.error));
    if (update.finish == Finish::kCancelled) return fail(shutting_down());
    time_.add(update.times);
    if (update.token && r_.prompt_logprobs && !std::exchange(answer.prompt_told, true)) tell_prompt(i, update.prompt);
    if (done_) return;
    std::string text;
    std::vector<LoggedToken> tokens;
    if (update.token && !r_.no_answer) {
      ++answer.n_tokens;
      const size_t begins = streams_[i].came();
      if (!update.token->ends) text = to_text(i, update.token->id);
      // Who has a prompt scored cuts off the token that is drawn behind it: it is there though it ends the text.
      if (r_.top_logprobs >= 0 && (!update.token->ends || r_.prompt_logprobs))
        unsaid_[i].emplace_back(begins, LoggedToken{update.token->id, update.token->logprob, update.token->top});
    }
    const bool ended = update.finish != Finish::kNone;
    if (ended) text += streams_[i].finish();
    const bool stopped = streams_[i].stopped();
    // At once; where there are stop texts with their text, for that of a stop text never comes.
    while (!unsaid_[i].empty() && (!streams_[i].may_stop() || unsaid_[i].front().first < streams_[i].given() || (ended && !stopped))) {
      tokens.push_back(std::move(unsaid_[i].front().second));
      unsaid_[i].pop_front();
    }
    if (!r_.stream && !tokens.empty() && !grow(format_->log(i, tokens))) return;
    if (parsers_.empty()) {
      say(i, text, tokens);
    } else {
      say_parsed(i, text, ended || stopped, tokens);
    }
    if (!ended && !stopped) return;
    answer.stop = streams_[i].stop();
    const bool length = r_.no_answer || (update.finish == Finish::kLength && !stopped);
    answer.finish = length ? "length" : "stop";
    if (answer.finish == "stop" && !answer.calls.empty()) answer.finish = "tool_calls";
    if (!ended) target_->service->cancel(first_ + static_cast<Ticket>(i), Finish::kEnd);
    usage_.completion += answer.n_tokens;
    if (--open_ == 0) usage_.timings = time_.timings(exchange_->sending_seconds());
    if (r_.stream) send([&] { return format_->last(i, answer, usage_); });
    if (open_ == 0) end();
  }

  void tell_prompt(int i, const std::vector<DrawnToken>& prompt) {
    std::vector<LoggedToken> tokens;
    for (const DrawnToken& t : prompt) tokens.push_back({t.id, t.logprob, t.top});
    if (r_.stream) send([&] { return format_->prompt(i, tokens); });
    else grow(format_->log_prompt(i, tokens));
  }

  // Where log-probabilities take more than was thought, they need more room.
  bool grow(size_t bytes) {
    logged_ += 2 * bytes;
    if (done_ || logged_ <= room_.bytes()) return !done_;
    if (auto more = exchange_->room(std::max<uint64_t>(logged_ - room_.bytes(), 256 << 10))) {
      room_.add(std::move(*more));
      return true;
    }
    fail(no_room(logged_));
    return false;
  }

  std::string to_text(int i, TokenId id) {
    const Stopwatch watch(time_.detokenize());
    return streams_[i].push(id);
  }

  void say(int i, const std::string& text, const std::vector<LoggedToken>& tokens) {
    answers_[i].text += text;
    if (r_.stream && (!text.empty() || !tokens.empty())) send([&] { return format_->delta(i, text, tokens); });
  }

  // Calls among the text go out as calls.
  void say_parsed(int i, const std::string& text, bool last, std::vector<LoggedToken> tokens) {
    chat::ToolEvents events;
    {
      const Stopwatch watch(time_.detokenize());
      parsers_[i]->push(text, events);
      if (last) parsers_[i]->finish(events, r_.tools.must);
    }
    std::vector<ToolCall>& calls = answers_[i].calls;
    for (const chat::ToolEvent& event : events) {
      using Kind = chat::ToolEvent::Kind;
      const int n = static_cast<int>(calls.size()) - (event.kind != Kind::kCall);
      switch (event.kind) {
        case Kind::kText:
          say(i, event.text, std::exchange(tokens, {}));
          break;
        case Kind::kCall:
          calls.push_back({.id = call_id(), .name = event.text, .arguments = "", .text_before = answers_[i].text.size()});
          if (r_.stream) send([&] { return format_->call_begins(i, n, calls.back()); });
          break;
        case Kind::kArguments:
          calls[n].arguments += event.text;
          if (r_.stream) send([&] { return format_->call_arguments(i, n, event.text); });
          break;
        case Kind::kCallEnd:
          calls[n].whole = event.whole;
          if (r_.stream) send([&] { return format_->call_ends(i, n, calls[n]); });
      }
    }
    if (!tokens.empty()) say(i, "", tokens);
  }

  std::string call_id() const {
    const int length = target_->tool_format->id_length;
    return length > 0 ? random_id("").substr(0, length) : random_id(format_->call_prefix());
  }

  void end() {
    done_ = true;
    if (!r_.stream) return send_whole();
    send([&] { return format_->end(usage_); });
    exchange_->end();
  }

  void send_whole() {
    std::string body;
    {
      const Stopwatch watch(time_.write());
      body = format_->whole(answers_, usage_);
    }
    usage_.timings = time_.timings(exchange_->sending_seconds());
    usage_.add_timings(body);
    answers_.clear();
    room_.release();  // the exchange takes what the body needs
    exchange_->reply(200, "application/json", std::move(body));
  }

  void fail(ApiError error) {
    if (done_) return;
    cancel();
    if (!begun_) return reply(*exchange_, error, format_->error(error));
    send([&] { return format_->stream_error(error); });
    exchange_->end();
  }

  void cancel() {
    done_ = true;
    for (size_t i = 0; i < answers_.size() && first_; ++i)
      if (answers_[i].finish.empty()) target_->service->cancel(first_ + i);
  }

  template <typename Text>
  void send(const Text& make) {
    const Stopwatch watch(time_.write());
    std::string text = make();
    if (!text.empty()) exchange_->write(std::move(text));
  }

  const App& app_;
  const Target target_;
  const std::shared_ptr<Exchange> exchange_;
  const GenerationRequest r_;
  const std::unique_ptr<AnswerFormat> format_;
  std::vector<Answer> answers_;
  std::vector<TextStream> streams_;
  std::vector<std::deque<std::pair<size_t, LoggedToken>>> unsaid_;  // of each answer, with where their text begins
  std::vector<std::unique_ptr<chat::ToolParser>> parsers_;  // none where no tools are offered
  std::vector<std::pair<int, Update>> early_;
  Allowance::Share room_;  // for the prompts, the answers, and what goes with them
  uint64_t logged_ = 0;    // bytes of log-probabilities
  Usage usage_;
  TimeLine time_;
  Ticket first_ = 0;  // of all, one after another; 0: they are not submitted
  int waiting_ = 0, open_ = 0;  // not yet taken in; not yet ended
  bool begun_ = false, done_ = false;
};

}  // namespace

void generate(Call call, GenerationRequest request, std::unique_ptr<AnswerFormat> format) {
  // Of the body nothing is needed any more.
  call.body = {};
  call.exchange->body_done();
  const int64_t context = call.target->engine->options().context;
  const auto refuse = [&](const ApiError& error) { reply(*call.exchange, error, format->error(error)); };
  if (!call.target->service) return refuse(ApiError{.message = "model gives embeddings, not text", .param = "model"});
  const auto requests = static_cast<int64_t>(request.prompts.size()) * request.n;
  if (const int64_t most = call.target->service->largest_group(); requests > most)
    return refuse(ApiError{.message = fmt::format("{} prompts with {} answers to each are {} requests; at most {} may come at once",
                                                  request.prompts.size(), request.n, requests, most),
                           .param = "n"});
  for (const auto& prompt : request.prompts) {
    const int64_t n = static_cast<int64_t>(prompt.size());
    if (n == 0) return refuse(ApiError{.message = "the prompt has no tokens"});
    // The last token drawn takes no place.
    if (n + std::max<int64_t>(request.max_tokens, 1) - 1 > context)
      return refuse(ApiError{
              .message =
                  n > context
                      ? fmt::format("the prompt has {} tokens, the context holds {}", n, context)
                      : fmt::format("the prompt has {} tokens and {} are to be generated, the "
                                    "context holds {}; ask for at most {}",
                                    n, request.max_tokens, context, context - n + 1),
              .code = "context_length_exceeded"});
  }
  const auto room_for = [&](uint64_t bytes) {
    auto room = call.exchange->room(bytes);
    if (!room) refuse(call.exchange->holds_all() ? never_room(bytes) : no_room(bytes));
    return room;
  };
  if (request.grammar) {
    auto room = room_for(request.grammar->bytes());
    if (!room) return;
    request.grammar = kept(std::move(request.grammar), std::move(*room));
  }
  auto room = room_for(bytes_of(request, context) + format->held_bytes());
  if (!room) return;
  const Account account = call.account;
  const auto exchange = call.exchange;
  exchange->post([account, generation = std::make_shared<Generation>(std::move(call), std::move(request), std::move(format), std::move(*room))] {
    generation->start(account);
  });
}

}  // namespace venturi::server
