#include "server/generation.h"

#include <algorithm>
#include <charconv>

#include "base/log.h"
#include "grammar/json_schema.h"

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

namespace {

std::shared_ptr<const grammar::Automaton> read_grammar(Fields& fields) {
  const auto compiled =
      [&](const char* name,
          const Result<grammar::Grammar>& parsed) -> std::shared_ptr<const grammar::Automaton> {
    if (!parsed) {
      fields.fail(name, "cannot be followed: " + parsed.error().message);
      return nullptr;
    }
    auto automaton = grammar::Automaton::compile(*parsed);
    if (!automaton) {
      fields.fail(name, "cannot be followed: " + automaton.error().message);
      return nullptr;
    }
    return *automaton;
  };
  const std::string gbnf = fields.text("grammar", "");
  if (!gbnf.empty()) return compiled("grammar", grammar::parse_gbnf(gbnf));
  const Json* format = fields.find("response_format");
  if (!format) return nullptr;
  const std::string type =
      format->is_object()
          ? format->value("type", Json()).is_string() ? format->at("type").get<std::string>() : ""
          : "";
  if (type == "text") return nullptr;
  if (type == "json_object") return compiled("response_format", grammar::json_object_grammar());
  if (type == "json_schema") {
    const auto held = format->find("json_schema");
    if (held == format->end() || !held->is_object() || !held->contains("schema")) {
      fields.fail("response_format.json_schema", "must be an object with a schema");
      return nullptr;
    }
    return compiled("response_format.json_schema.schema",
                    grammar::json_schema_grammar(held->at("schema")));
  }
  fields.fail("response_format",
              "must be an object with a type of text, json_object or json_schema");
  return nullptr;
}

void read_bias(Fields& fields, const App& app, SamplingParams& sampling) {
  const Json* bias = fields.find("logit_bias");
  if (!bias) return;
  if (!bias->is_object() || bias->size() > 1024)
    return fields.fail("logit_bias", "must be an object of at most 1024 token ids");
  for (const auto& [name, value] : bias->items()) {
    int32_t id = -1;
    const auto [end, failed] = std::from_chars(name.data(), name.data() + name.size(), id);
    if (failed != std::errc() || end != name.data() + name.size() || id < 0 ||
        id >= app.tokenizer->vocab_size() || !value.is_number() ||
        std::abs(value.get<double>()) > 100)
      return fields.fail("logit_bias",
                         fmt::format("must map token ids below {} to numbers from -100 to 100",
                                     app.tokenizer->vocab_size()));
    sampling.logit_bias[id] = value.get<float>();
  }
}

}  // namespace

GenerationRequest read_generation(Fields& fields, const App& app) {
  GenerationRequest r;
  SamplingParams& s = r.sampling;
  s.temperature = static_cast<float>(fields.number("temperature", 1, 0, 1000));
  s.top_p = static_cast<float>(fields.number("top_p", 1, 0, 1));
  s.top_k = static_cast<int32_t>(fields.integer("top_k", 0, -1, 1 << 30));
  s.min_p = static_cast<float>(fields.number("min_p", 0, 0, 1));
  s.typical_p = static_cast<float>(fields.number("typical_p", 1, 0, 1));
  s.repetition_penalty = static_cast<float>(fields.number("repetition_penalty", 1, 0.01, 100));
  s.presence_penalty = static_cast<float>(fields.number("presence_penalty", 0, -2, 2));
  s.frequency_penalty = static_cast<float>(fields.number("frequency_penalty", 0, -2, 2));
  s.penalty_last_n = -1;
  s.top_k = std::max(s.top_k, 0);
  static thread_local std::random_device device;
  s.seed = static_cast<uint64_t>(
      fields.integer("seed", static_cast<int64_t>(device()), INT64_MIN / 2, INT64_MAX / 2));
  read_bias(fields, app, s);
  r.n = static_cast<int>(fields.integer("n", 1, 1, 128));
  r.ignore_end = fields.flag("ignore_eos", false);
  r.priority = static_cast<int>(fields.integer("priority", 0, -100, 100));
  r.stops = fields.texts("stop", 16);
  for (const std::string& stop : r.stops)
    if (stop.empty() || stop.size() > 4096)
      fields.fail("stop", "must hold texts of 1 to 4096 bytes");
  r.stream = fields.flag("stream", false);
  if (const Json* options = fields.find("stream_options")) {
    if (!r.stream) {
      fields.fail("stream_options", "is for streams only");
    } else {
      Fields inner(*options, "stream_options.");
      r.include_usage = inner.flag("include_usage", false);
      if (inner.error())
        fields.fail("stream_options", "must be an object whose include_usage is true or false");
    }
  }
  if (!fields.error()) r.grammar = read_grammar(fields);
  if (!fields.error())
    if (const Status status = validate(s); !status) fields.fail("sampling", status.error().message);
  return r;
}

namespace {

class Generation : public std::enable_shared_from_this<Generation> {
 public:
  Generation(App& app, std::shared_ptr<Exchange> exchange, GenerationRequest request,
             std::unique_ptr<AnswerFormat> format)
      : app_(app),
        exchange_(std::move(exchange)),
        r_(std::move(request)),
        format_(std::move(format)) {}

  void start(const std::string& account) {
    const int total = static_cast<int>(r_.prompts.size()) * r_.n;
    answers_.resize(total);
    tickets_.resize(total);
    waiting_ = open_ = total;
    for (int i = 0; i < total; ++i) streams_.emplace_back(*app_.tokenizer, r_.stops);
    exchange_->on_close([self = shared_from_this()] {
      if (!self->done_) self->cancel();
    });
    for (int i = 0; i < total; ++i) {
      auto ticket = app_.service->submit(
          submission(i, account), [self = shared_from_this(), i](const Update& update) {
            self->exchange_->post([self, i, update] { self->take(i, update); });
          });
      if (!ticket) return fail(api_error(ticket.error()));
      tickets_[i] = *ticket;
    }
    for (const auto& prompt : r_.prompts) usage_.prompt += static_cast<int64_t>(prompt.size());
  }

 private:
  Submission submission(int i, const std::string& account) {
    Submission s;
    s.prompt = r_.prompts[i / r_.n];
    s.max_new_tokens = r_.max_tokens > 0 ? r_.max_tokens
                                         : app_.engine->options().context -
                                               static_cast<int64_t>(s.prompt.size()) + 1;
    s.sampling = r_.sampling;
    s.sampling.seed += static_cast<uint64_t>(i % r_.n);
    s.ignore_end = r_.ignore_end;
    s.top_logprobs = r_.top_logprobs;
    s.key = account;
    s.priority = r_.priority;
    if (r_.grammar) s.constraint = std::make_unique<grammar::Constraint>(r_.grammar, app_.trie);
    return s;
  }

  // Nothing is sent before all are taken in: until then the whole request may be refused.
  void take(int i, const Update& update) {
    if (done_) return;
    if (update.finish == Finish::kRefused) return fail(refusal(*update.refusal));
    if (waiting_ > 0) {
      if (!update.token && update.finish == Finish::kNone) {
        usage_.cached += update.cached_tokens;
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
      exchange_->begin("text/event-stream; charset=utf-8");
      for (size_t i = 0; i < answers_.size(); ++i) event(format_->first(static_cast<int>(i)));
    }
    for (const auto& [i, update] : std::exchange(early_, {})) go_on(i, update);
  }

  void go_on(int i, const Update& update) {
    Answer& answer = answers_[i];
    if (done_ || !answer.finish.empty()) return;  // what is drawn after a stop text
    if (update.finish == Finish::kFailed) return fail(api_error(*update.error));
    if (update.finish == Finish::kCancelled)
      return fail(
          {.status = 503, .type = "server_error", .message = "the server is shutting down"});
    std::string text;
    std::vector<LoggedToken> tokens;
    if (update.token) {
      ++answer.n_tokens;
      if (!update.token->ends) {
        text = streams_[i].push(update.token->id);
        if (r_.top_logprobs >= 0)
          tokens.push_back({update.token->id, update.token->logprob, update.token->top});
      }
    }
    const bool ended = update.finish != Finish::kNone;
    if (ended) text += streams_[i].finish();
    const bool stopped = streams_[i].stopped();
    answer.text += text;
    answer.tokens.insert(answer.tokens.end(), tokens.begin(), tokens.end());
    if (r_.stream && (!text.empty() || !tokens.empty())) event(format_->delta(i, text, tokens));
    if (!ended && !stopped) return;
    answer.finish = update.finish == Finish::kLength && !stopped ? "length" : "stop";
    if (!ended) app_.service->cancel(tickets_[i]);
    usage_.completion += answer.n_tokens;
    if (r_.stream) event(format_->last(i, answer));
    if (--open_ == 0) end();
  }

  void end() {
    done_ = true;
    if (!r_.stream) return reply(*exchange_, format_->whole(answers_, usage_));
    if (r_.include_usage) event(format_->usage(usage_));
    exchange_->write("data: [DONE]\n\n");
    exchange_->end();
  }

  void fail(ApiError error) {
    if (done_) return;
    cancel();
    if (!begun_) return reply(*exchange_, error);
    exchange_->write("data: " + dump(error) + "\n\n");
    exchange_->end();
  }

  void cancel() {
    done_ = true;
    for (const Ticket ticket : tickets_)
      if (ticket) app_.service->cancel(ticket);
  }

  void event(const Json& json) {
    if (!json.is_null()) exchange_->write("data: " + dump(json) + "\n\n");
  }

  App& app_;
  const std::shared_ptr<Exchange> exchange_;
  const GenerationRequest r_;
  const std::unique_ptr<AnswerFormat> format_;
  std::vector<Answer> answers_;
  std::vector<TextStream> streams_;
  std::vector<Ticket> tickets_;
  std::vector<std::pair<int, Update>> early_;
  Usage usage_;
  int waiting_ = 0, open_ = 0;  // not yet taken in; not yet ended
  bool begun_ = false, done_ = false;
};

}  // namespace

void generate(App& app, std::shared_ptr<Exchange> exchange, const std::string& account,
              GenerationRequest request, std::unique_ptr<AnswerFormat> format) {
  const int64_t context = app.engine->options().context;
  for (const auto& prompt : request.prompts) {
    const int64_t n = static_cast<int64_t>(prompt.size());
    if (n == 0) return reply(*exchange, ApiError{.message = "the prompt has no tokens"});
    // The last token drawn takes no place.
    if (n + std::max<int64_t>(request.max_tokens, 1) - 1 > context)
      return reply(
          *exchange,
          ApiError{
              .message =
                  n > context
                      ? fmt::format("the prompt has {} tokens, the context holds {}", n, context)
                      : fmt::format("the prompt has {} tokens and {} are to be generated, the "
                                    "context holds {}; ask for at most {}",
                                    n, request.max_tokens, context, context - n + 1),
              .code = "context_length_exceeded"});
  }
  std::make_shared<Generation>(app, std::move(exchange), std::move(request), std::move(format))
      ->start(account);
}

}  // namespace venturi::server
