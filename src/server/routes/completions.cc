// OpenAI: POST /v1/chat/completions and /v1/completions.
#include <algorithm>
#include <deque>

#include "server/generation.h"
#include "server/pieces.h"
#include "tokenizers/utf8.h"

namespace venturi::server {

namespace {

std::string spelling(const ServedModel& model, TokenId id) { return model.tokenizer->piece(id, true); }

// An entry of chat completions' logprobs, but for its end.
void add_entry(std::string& to, const ServedModel& model, TokenId id, double logprob) {
  const std::string text = spelling(model, id);
  to.append("{\"token\":").append(dump(Json(text))).append(",\"logprob\":").append(dump(Json(logprob))) += ",\"bytes\":[";
  for (size_t i = 0; i < text.size(); ++i) to.append(i ? "," : "").append(std::to_string(static_cast<unsigned char>(text[i])));
  to += ']';
}

// The entries of tokens, with a comma between them.
std::string chat_entries(const ServedModel& model, const std::vector<LoggedToken>& tokens) {
  std::string list;
  for (const LoggedToken& t : tokens) {
    if (!list.empty()) list += ',';
    add_entry(list, model, t.id, t.logprob);
    list += ",\"top_logprobs\":[";
    for (size_t i = 0; i < t.top.size(); ++i) {
      if (i) list += ',';
      add_entry(list, model, t.top[i].first, t.top[i].second);
      list += '}';
    }
    list += "]}";
  }
  return list;
}

constexpr std::string_view kChatLogBegin = "{\"content\":[", kChatLogEnd = "],\"refusal\":null}";

std::string event(const std::string& object) { return "data: " + object + "\n\n"; }
std::string event(const Json& json) { return event(dump(json)); }

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
    std::string json = choice(index, Json::object(), answer.finish, {});
    usage.add_timings(json);
    return event(json);
  }
  size_t log(int index, const std::vector<LoggedToken>& tokens) override {
    if (!logprobs_ || tokens.empty()) return 0;
    logged_.resize(std::max(logged_.size(), static_cast<size_t>(index) + 1));
    const std::string entries = chat_entries(*target_, tokens);
    logged_[index].add_item(entries);
    return entries.size() + 1;
  }
  std::string whole(const std::vector<Answer>& answers, const Usage& usage) override {
    Json json = head("chat.completion");
    json["usage"] = usage.json();
    std::string body = dump(json);
    logged_.resize(answers.size());
    size_t size = body.size();
    for (const Pieces& logged : logged_) size += logged.size();
    body.reserve(size + 256 * answers.size());
    body.pop_back();
    body += ",\"choices\":[";
    for (size_t i = 0; i < answers.size(); ++i) {
      const Answer& a = answers[i];
      Json message = {{"role", "assistant"}, {"content", a.text}, {"refusal", nullptr}};
      if (!a.calls.empty() && a.text.empty()) message["content"] = nullptr;
      for (const ToolCall& call : a.calls)
        message["tool_calls"].push_back(
            {{"id", call.id},
             {"type", "function"},
             {"function", {{"name", call.name}, {"arguments", call.arguments}}}});
      if (i) body += ',';
      body += dump(Json{{"index", i}, {"message", std::move(message)}, {"finish_reason", a.finish}});
      body.back() = ',';
      body += "\"logprobs\":";
      if (logprobs_) {
        body += kChatLogBegin;
        logged_[i].move_to(body);
        body += kChatLogEnd;
      } else {
        body += "null";
      }
      body += '}';
    }
    return std::move(body += "]}");
  }

 private:
  std::string call_chunk(int index, Json call) const {
    return chunk(index, {{"tool_calls", Json::array({std::move(call)})}}, nullptr, {});
  }
  std::string chunk(int index, Json delta, Json finish,
                    const std::vector<LoggedToken>& tokens) const {
    return event(choice(index, std::move(delta), std::move(finish), tokens));
  }
  std::string choice(int index, Json delta, Json finish, const std::vector<LoggedToken>& tokens) const {
    std::string logged = "null";
    if (logprobs_ && !tokens.empty()) logged = fmt::format("{}{}{}", kChatLogBegin, chat_entries(*target_, tokens), kChatLogEnd);
    const std::string one = with_member(dump(Json{{"index", index}, {"delta", std::move(delta)}, {"finish_reason", std::move(finish)}}), "logprobs", logged);
    return with_member(dump(head("chat.completion.chunk")), "choices", "[" + one + "]");
  }

  const bool logprobs_;
  std::deque<Pieces> logged_;  // [answers], of whole ones
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

// The four lists of completions' logprobs: items with a comma between them.
template <typename List>
struct TextLog {
  List tokens, logprobs, tops, offsets;
};

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
  std::string prompt(int index, const std::vector<LoggedToken>& tokens) override {
    if (echo(index).tokens.empty()) return "";
    return event_of(one(index, echo(index).text, nullptr), written(of_prompt(index, tokens)));
  }
  std::string delta(int index, const std::string& text,
                    const std::vector<LoggedToken>& tokens) override {
    return choice(index, text, nullptr, tokens);
  }
  std::string last(int index, const Answer& answer, const Usage& usage) override {
    std::string json = object_of(one(index, "", answer.finish), written({}));
    usage.add_timings(json);
    return event(json);
  }
  size_t log_prompt(int index, const std::vector<LoggedToken>& tokens) override { return keep(index, of_prompt(index, tokens)); }
  size_t log(int index, const std::vector<LoggedToken>& tokens) override { return logprobs_ ? keep(index, of(index, tokens)) : 0; }
  std::string whole(const std::vector<Answer>& answers, const Usage& usage) override {
    Json json = head("text_completion");
    json["usage"] = usage.json();
    std::string body = dump(json);
    kept_.resize(answers.size());
    size_t size = body.size();
    for (size_t i = 0; i < answers.size(); ++i)
      size += 256 + kept_[i].tokens.size() + kept_[i].logprobs.size() + kept_[i].tops.size() + kept_[i].offsets.size() + echo(i).text.size() + answers[i].text.size();
    body.reserve(size);
    body.pop_back();
    body += ",\"choices\":[";
    for (size_t i = 0; i < answers.size(); ++i) {
      if (i) body += ',';
      body += dump(one(static_cast<int>(i), echo(i).text + answers[i].text, answers[i].finish));
      body.back() = ',';
      body += "\"logprobs\":";
      if (!logprobs_) body += "null";
      else write(body, kept_[i], [&](Pieces& list) { list.move_to(body); });
      body += '}';
    }
    return std::move(body += "]}");
  }

 private:
  using Log = TextLog<std::string>;
  const Echo& echo(size_t index) const { return echoes_[index / n_]; }

  template <typename List, typename Add>
  static void write(std::string& to, TextLog<List>& log, const Add& add) {
    to += "{\"tokens\":[";
    add(log.tokens);
    to += "],\"token_logprobs\":[";
    add(log.logprobs);
    to += "],\"top_logprobs\":[";
    add(log.tops);
    to += "],\"text_offset\":[";
    add(log.offsets);
    to += "]}";
  }
  std::string written(Log log) const {
    std::string text;
    if (!logprobs_) return "null";
    write(text, log, [&](const std::string& list) { text += list; });
    return text;
  }
  size_t keep(int index, const Log& log) {
    if (log.tokens.empty()) return 0;
    kept_.resize(std::max(kept_.size(), static_cast<size_t>(index) + 1));
    TextLog<Pieces>& kept = kept_[index];
    kept.tokens.add_item(log.tokens);
    kept.logprobs.add_item(log.logprobs);
    kept.tops.add_item(log.tops);
    kept.offsets.add_item(log.offsets);
    return log.tokens.size() + log.logprobs.size() + log.tops.size() + log.offsets.size() + 4;
  }
  // `t` is null for the first token of a prompt, which nothing foretells.
  void add(Log& log, int index, TokenId id, const LoggedToken* t) {
    Json top = t ? Json::object() : Json(nullptr);
    if (t) {
      for (const auto& [other, logprob] : t->top) top[token_name(*target_, other)] = logprob;
      top[token_name(*target_, id)] = t->logprob;
    }
    const char* comma = log.tokens.empty() ? "" : ",";
    log.tokens.append(comma).append(dump(Json(token_name(*target_, id))));
    log.logprobs.append(comma).append(t ? dump(Json(t->logprob)) : "null");
    log.tops.append(comma).append(dump(top));
    log.offsets.append(comma).append(std::to_string(offsets_[index]));
    offsets_[index] += count_characters(target_->tokenizer->piece(id));
  }
  Log of(int index, const std::vector<LoggedToken>& tokens) {
    Log log;
    for (const LoggedToken& t : tokens) add(log, index, t.id, &t);
    return log;
  }
  Log of_prompt(int index, const std::vector<LoggedToken>& logged) {
    Log log;
    const std::vector<TokenId>& tokens = echo(index).tokens;
    if (tokens.empty() || logged.size() + 1 != tokens.size()) return log;
    size_t total = 0;
    for (size_t i = 0; i < tokens.size(); ++i) {
      add(log, index, tokens[i], i ? &logged[i - 1] : nullptr);
      // A space that the tokenizer put before the text is not of it.
      const std::string piece = target_->tokenizer->piece(tokens[i]);
      if (total == 0 && piece.starts_with(' ') && !echo(index).text.starts_with(' '))
        --offsets_[index];
      total += piece.size();
    }
    return log;
  }
  static Json one(int index, const std::string& text, Json finish) { return {{"index", index}, {"text", text}, {"finish_reason", std::move(finish)}}; }
  std::string choice(int index, const std::string& text, Json finish, const std::vector<LoggedToken>& tokens) {
    return event_of(one(index, text, std::move(finish)), written(of(index, tokens)));
  }
  std::string object_of(const Json& choice, const std::string& logprobs) const {
    return with_member(dump(head("text_completion")), "choices", "[" + with_member(dump(choice), "logprobs", logprobs) + "]");
  }
  std::string event_of(const Json& choice, const std::string& logprobs) const { return event(object_of(choice, logprobs)); }

  const bool logprobs_;
  const std::vector<Echo> echoes_;  // [prompts]
  const int n_;
  std::vector<size_t> offsets_;  // [prompts * n], in characters
  std::deque<TextLog<Pieces>> kept_;  // [prompts * n], of whole answers
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
