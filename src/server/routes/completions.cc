// OpenAI: POST /v1/chat/completions and /v1/completions.
#include <algorithm>

#include "server/generation.h"
#include "tokenizers/utf8.h"

namespace venturi::server {

namespace {

std::string spelling(const ServedModel& model, TokenId id) { return model.tokenizer->piece(id, true); }

Json bytes_of(const std::string& text) {
  Json list = Json::array();
  for (const char c : text) list.push_back(static_cast<unsigned char>(c));
  return list;
}

Json chat_logprobs(const ServedModel& model, const std::vector<LoggedToken>& tokens) {
  Json list = Json::array();
  const auto entry = [&](TokenId id, double logprob) {
    const std::string text = spelling(model, id);
    return Json{{"token", text}, {"logprob", logprob}, {"bytes", bytes_of(text)}};
  };
  for (const LoggedToken& t : tokens) {
    Json one = entry(t.id, t.logprob);
    one["top_logprobs"] = Json::array();
    for (const auto& [id, logprob] : t.top) one["top_logprobs"].push_back(entry(id, logprob));
    list.push_back(std::move(one));
  }
  return {{"content", std::move(list)}, {"refusal", nullptr}};
}

std::string event(const Json& json) { return "data: " + dump(json) + "\n\n"; }

// What both have in common: the head of an object, and how a stream ends.
class Format : public AnswerFormat {
 public:
  Format(const Target& target, const char* id, const char* chunk, bool include_usage)
      : target_(target), id_(random_id(id)), chunk_(chunk), include_usage_(include_usage) {}

  std::string end(const Usage& usage) override {
    std::string text;
    if (include_usage_) {
      Json json = head(chunk_);
      json["choices"] = Json::array();
      json["usage"] = usage.json();
      text = event(json);
    }
    return text + "data: [DONE]\n\n";
  }
  std::string stream_error(const ApiError& error) override {
    return "data: " + dump(error) + "\n\n";
  }

 protected:
  Json head(const char* object) const {
    Json json = {{"id", id_}, {"object", object}, {"created", created_}, {"model", target_.name}};
    if (include_usage_) json["usage"] = nullptr;  // until the last chunk
    return json;
  }

  const Target target_;

 private:
  const std::string id_;
  const char* const chunk_;
  const bool include_usage_;
  const int64_t created_ = static_cast<int64_t>(std::time(nullptr));
};

class ChatFormat : public Format {
 public:
  ChatFormat(const Target& target, bool logprobs, bool include_usage)
      : Format(target, "chatcmpl-", "chat.completion.chunk", include_usage), logprobs_(logprobs) {}

  std::string first(int index, const Usage&) override {
    return chunk(index, {{"role", "assistant"}, {"content", ""}}, nullptr, {});
  }
  std::string delta(int index, const std::string& text,
                    const std::vector<LoggedToken>& tokens) override {
    return chunk(index, {{"content", text}}, nullptr, tokens);
  }
  std::string call_begins(int index, int n, const ToolCall& call) override {
    return call_chunk(index, {{"index", n},
                              {"id", call.id},
                              {"type", "function"},
                              {"function", {{"name", call.name}, {"arguments", ""}}}});
  }
  std::string call_arguments(int index, int n, const std::string& more) override {
    return call_chunk(index, {{"index", n}, {"function", {{"arguments", more}}}});
  }
  std::string last(int index, const Answer& answer, const Usage& usage) override {
    Json json = choice(index, Json::object(), answer.finish, {});
    usage.add_timings(json);
    return event(json);
  }
  Json whole(const std::vector<Answer>& answers, const Usage& usage) override {
    Json json = head("chat.completion");
    json["choices"] = Json::array();
    for (const Answer& a : answers) {
      Json message = {{"role", "assistant"}, {"content", a.text}, {"refusal", nullptr}};
      if (!a.calls.empty() && a.text.empty()) message["content"] = nullptr;
      for (const ToolCall& call : a.calls)
        message["tool_calls"].push_back(
            {{"id", call.id},
             {"type", "function"},
             {"function", {{"name", call.name}, {"arguments", call.arguments}}}});
      json["choices"].push_back(
          {{"index", json["choices"].size()},
           {"message", std::move(message)},
           {"logprobs", logprobs_ ? chat_logprobs(*target_, a.tokens) : Json(nullptr)},
           {"finish_reason", a.finish}});
    }
    json["usage"] = usage.json();
    return json;
  }

 private:
  std::string call_chunk(int index, Json call) const {
    return chunk(index, {{"tool_calls", Json::array({std::move(call)})}}, nullptr, {});
  }
  std::string chunk(int index, Json delta, Json finish,
                    const std::vector<LoggedToken>& tokens) const {
    return event(choice(index, std::move(delta), std::move(finish), tokens));
  }
  Json choice(int index, Json delta, Json finish, const std::vector<LoggedToken>& tokens) const {
    Json json = head("chat.completion.chunk");
    json["choices"] = Json::array(
        {{{"index", index},
          {"delta", std::move(delta)},
          {"logprobs", logprobs_ && !tokens.empty() ? chat_logprobs(*target_, tokens) : Json(nullptr)},
          {"finish_reason", std::move(finish)}}});
    return json;
  }

  const bool logprobs_;
};

// What of a text's bytes begins a character.
size_t count_characters(std::string_view text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

// As OpenAI's completions name a token: bytes that are no text by their numbers, so that names
// differ.
std::string token_name(const ServedModel& model, TokenId id) {
  const std::string text = spelling(model, id);
  if (utf8_run(text, 0, true) == text.size()) return text;
  std::string name = "bytes:";
  for (const char c : text) name += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
  return name;
}

struct Echo {
  std::string text;             // of the prompt; "" where it is not repeated
  std::vector<TokenId> tokens;  // of the prompt, where they are logged
};

class TextFormat : public Format {
 public:
  TextFormat(const Target& target, bool logprobs, bool include_usage, std::vector<Echo> echoes, int n)
      : Format(target, "cmpl-", "text_completion", include_usage),
        logprobs_(logprobs),
        echoes_(std::move(echoes)),
        n_(n),
        offsets_(echoes_.size() * n) {
    for (size_t i = 0; i < offsets_.size(); ++i)
      if (echo(i).tokens.empty()) offsets_[i] = count_characters(echo(i).text);
  }

  std::string first(int index, const Usage&) override {
    const Echo& e = echo(index);
    return e.text.empty() || !e.tokens.empty() ? "" : choice(index, e.text, nullptr, {});
  }
  std::string prompt(int index, const Answer& answer) override {
    if (echo(index).tokens.empty() || answer.n_tokens > 0) return "";
    Json logprobs = empty_logprobs();
    add_prompt(logprobs, index, answer.prompt);
    return event_of(one(index, echo(index).text, nullptr, std::move(logprobs)));
  }
  std::string delta(int index, const std::string& text,
                    const std::vector<LoggedToken>& tokens) override {
    return choice(index, text, nullptr, tokens);
  }
  std::string last(int index, const Answer& answer, const Usage& usage) override {
    Json json = head("text_completion");
    json["choices"] = Json::array({one(index, "", answer.finish, empty_logprobs())});
    usage.add_timings(json);
    return event(json);
  }
  Json whole(const std::vector<Answer>& answers, const Usage& usage) override {
    Json json = head("text_completion");
    json["choices"] = Json::array();
    for (size_t i = 0; i < answers.size(); ++i) {
      const int index = static_cast<int>(i);
      Json logprobs = empty_logprobs();
      add_prompt(logprobs, index, answers[i].prompt);
      add(logprobs, index, answers[i].tokens);
      json["choices"].push_back(
          one(index, echo(i).text + answers[i].text, answers[i].finish, std::move(logprobs)));
    }
    json["usage"] = usage.json();
    return json;
  }

 private:
  const Echo& echo(size_t index) const { return echoes_[index / n_]; }

  static Json empty_logprobs() {
    return {{"tokens", Json::array()},
            {"token_logprobs", Json::array()},
            {"top_logprobs", Json::array()},
            {"text_offset", Json::array()}};
  }
  // `t` is null for the first token of a prompt, which nothing foretells.
  void add(Json& logprobs, int index, TokenId id, const LoggedToken* t) {
    Json top = t ? Json::object() : Json(nullptr);
    if (t) {
      for (const auto& [other, logprob] : t->top) top[token_name(*target_, other)] = logprob;
      top[token_name(*target_, id)] = t->logprob;
    }
    logprobs["tokens"].push_back(token_name(*target_, id));
    logprobs["token_logprobs"].push_back(t ? Json(t->logprob) : Json(nullptr));
    logprobs["top_logprobs"].push_back(std::move(top));
    logprobs["text_offset"].push_back(offsets_[index]);
    offsets_[index] += count_characters(target_->tokenizer->piece(id));
  }
  void add(Json& logprobs, int index, const std::vector<LoggedToken>& tokens) {
    for (const LoggedToken& t : tokens) add(logprobs, index, t.id, &t);
  }
  void add_prompt(Json& logprobs, int index, const std::vector<LoggedToken>& logged) {
    const std::vector<TokenId>& tokens = echo(index).tokens;
    if (tokens.empty() || logged.size() + 1 != tokens.size()) return;
    size_t total = 0;
    for (size_t i = 0; i < tokens.size(); ++i) {
      add(logprobs, index, tokens[i], i ? &logged[i - 1] : nullptr);
      // A space that the tokenizer put before the text is not of it.
      const std::string piece = target_->tokenizer->piece(tokens[i]);
      if (total == 0 && piece.starts_with(' ') && !echo(index).text.starts_with(' '))
        --offsets_[index];
      total += piece.size();
    }
  }
  Json one(int index, const std::string& text, Json finish, Json logprobs) {
    return {{"index", index},
            {"text", text},
            {"logprobs", logprobs_ ? std::move(logprobs) : Json(nullptr)},
            {"finish_reason", std::move(finish)}};
  }
  std::string choice(int index, const std::string& text, Json finish,
                     const std::vector<LoggedToken>& tokens) {
    Json logprobs = empty_logprobs();
    add(logprobs, index, tokens);
    return event_of(one(index, text, std::move(finish), std::move(logprobs)));
  }
  std::string event_of(Json choice) {
    Json json = head("text_completion");
    json["choices"] = Json::array({std::move(choice)});
    return event(json);
  }

  const bool logprobs_;
  const std::vector<Echo> echoes_;  // [prompts]
  const int n_;
  std::vector<size_t> offsets_;  // [prompts * n], in characters
};

void chat(Call call) {
  const ServedModel& model = *call.target;
  Fields fields(call.body);
  fields.ignore({"model"});
  bool include_usage = false;
  GenerationRequest request = read_generation(fields, model, &include_usage, read_tools(fields));
  request.max_tokens = fields.integer("max_completion_tokens",
                                      fields.integer("max_tokens", 0, 1, 1 << 30), 1, 1 << 30);
  const bool logprobs = fields.flag("logprobs", false);
  const int64_t top = fields.integer("top_logprobs", 0, 0, 20);
  if (top > 0 && !logprobs) fields.fail("top_logprobs", "needs logprobs to be true");
  if (logprobs) request.top_logprobs = static_cast<int>(top);
  fields.only("functions");
  fields.only("function_call", "none");
  fields.only("audio");
  fields.only("modalities", Json::array({"text"}));
  fields.only("prediction");
  fields.only("web_search_options");
  fields.only("store");
  fields.only("reasoning_effort", "none");
  fields.only("verbosity", "medium");
  for (const char* name : {"prompt", "echo", "suffix", "best_of"}) fields.only(name);
  fields.ignore({"user", "metadata", "service_tier", "safety_identifier", "prompt_cache_key"});
  if (!fields.error())
    request.prompts = {chat_prompt(fields, model, fields.find("messages"),
                                   fields.find("chat_template_kwargs"), request.tools)};
  if (fields.error()) return reply(*call.exchange, *fields.error());
  log_unknown(fields);
  auto format = std::make_unique<ChatFormat>(call.target, logprobs, include_usage);
  generate(std::move(call), std::move(request), std::move(format));
}

void completions(Call call) {
  const ServedModel& model = *call.target;
  Fields fields(call.body);
  fields.ignore({"model"});
  bool include_usage = false;
  GenerationRequest request = read_generation(fields, model, &include_usage);
  request.max_tokens = fields.integer("max_tokens", 16, 0, 1 << 30);
  const int64_t logprobs = fields.integer("logprobs", -1, 0, 20);
  request.top_logprobs = static_cast<int>(logprobs);
  const bool echo = fields.flag("echo", false);
  request.prompt_logprobs = echo && logprobs >= 0;
  if (request.max_tokens == 0 && !echo) fields.fail("max_tokens", "must be 1 or more without echo");
  request.no_answer = request.max_tokens == 0;
  request.max_tokens = std::max<int64_t>(request.max_tokens, 1);
  fields.only("suffix", "");
  fields.only("best_of", request.n);
  fields.only("tool_choice", "none");
  fields.only("top_logprobs", 0);
  for (const char* name : {"tools", "functions", "messages", "max_completion_tokens", "chat_template_kwargs"}) fields.only(name);
  fields.ignore({"user"});
  if (!fields.error()) request.prompts = read_texts(fields, model, "prompt", 256);
  if (fields.error()) return reply(*call.exchange, *fields.error());
  log_unknown(fields);
  std::vector<Echo> echoes(request.prompts.size());
  for (size_t i = 0; echo && i < echoes.size(); ++i) {
    echoes[i].text = model.tokenizer->decode(request.prompts[i]);
    if (request.prompt_logprobs) echoes[i].tokens = request.prompts[i];
  }
  const int n = request.n;
  auto format = std::make_unique<TextFormat>(call.target, logprobs >= 0, include_usage, std::move(echoes), n);
  generate(std::move(call), std::move(request), std::move(format));
}

}  // namespace

extern const Routes routes_completions;
const Routes routes_completions{
    {{"POST", "/v1/chat/completions", chat, Needs::kModel}, {"POST", "/v1/completions", completions, Needs::kModel}}};

}  // namespace venturi::server
