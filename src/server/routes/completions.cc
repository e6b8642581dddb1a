// OpenAI: POST /v1/chat/completions and /v1/completions.
#include "base/log.h"
#include "chat/render.h"
#include "server/generation.h"

namespace venturi::server {

namespace {

std::string spelling(const App& app, TokenId id) { return app.tokenizer->piece(id, true); }

Json bytes_of(const std::string& text) {
  Json list = Json::array();
  for (const char c : text) list.push_back(static_cast<unsigned char>(c));
  return list;
}

Json chat_logprobs(const App& app, const std::vector<LoggedToken>& tokens) {
  Json list = Json::array();
  const auto entry = [&](TokenId id, double logprob) {
    const std::string text = spelling(app, id);
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

class ChatFormat : public AnswerFormat {
 public:
  ChatFormat(const App& app, bool logprobs) : app_(app), logprobs_(logprobs) {}

  Json first(int index) override {
    return chunk(index, {{"role", "assistant"}, {"content", ""}}, nullptr, {});
  }
  Json delta(int index, const std::string& text, const std::vector<LoggedToken>& tokens) override {
    return chunk(index, {{"content", text}}, nullptr, tokens);
  }
  Json last(int index, const Answer& answer) override {
    return chunk(index, Json::object(), answer.finish, {});
  }
  Json usage(const Usage& usage) override {
    Json json = head("chat.completion.chunk");
    json["choices"] = Json::array();
    json["usage"] = usage.json();
    return json;
  }
  Json whole(const std::vector<Answer>& answers, const Usage& usage) override {
    Json json = head("chat.completion");
    json["choices"] = Json::array();
    for (const Answer& a : answers)
      json["choices"].push_back(
          {{"index", json["choices"].size()},
           {"message", {{"role", "assistant"}, {"content", a.text}, {"refusal", nullptr}}},
           {"logprobs", logprobs_ ? chat_logprobs(app_, a.tokens) : Json(nullptr)},
           {"finish_reason", a.finish}});
    json["usage"] = usage.json();
    return json;
  }

 private:
  Json head(const char* object) const {
    return {{"id", id_}, {"object", object}, {"created", created_}, {"model", app_.model_name}};
  }
  Json chunk(int index, Json delta, Json finish, const std::vector<LoggedToken>& tokens) const {
    Json json = head("chat.completion.chunk");
    json["choices"] = Json::array(
        {{{"index", index},
          {"delta", std::move(delta)},
          {"logprobs", logprobs_ && !tokens.empty() ? chat_logprobs(app_, tokens) : Json(nullptr)},
          {"finish_reason", std::move(finish)}}});
    return json;
  }

  const App& app_;
  const bool logprobs_;
  const std::string id_ = random_id("chatcmpl-");
  const int64_t created_ = static_cast<int64_t>(std::time(nullptr));
};

class TextFormat : public AnswerFormat {
 public:
  TextFormat(const App& app, bool logprobs, std::vector<std::string> echoes, int n)
      : app_(app),
        logprobs_(logprobs),
        echoes_(std::move(echoes)),
        n_(n),
        offsets_(echoes_.size() * n) {
    for (size_t i = 0; i < offsets_.size(); ++i) offsets_[i] = echoes_[i / n_].size();
  }

  Json first(int index) override {
    return echoes_[index / n_].empty() ? Json(nullptr)
                                       : choice(index, echoes_[index / n_], nullptr, {});
  }
  Json delta(int index, const std::string& text, const std::vector<LoggedToken>& tokens) override {
    return choice(index, text, nullptr, tokens);
  }
  Json last(int index, const Answer& answer) override {
    return choice(index, "", answer.finish, {});
  }
  Json usage(const Usage& usage) override {
    Json json = head();
    json["choices"] = Json::array();
    json["usage"] = usage.json();
    return json;
  }
  Json whole(const std::vector<Answer>& answers, const Usage& usage) override {
    Json json = head();
    json["choices"] = Json::array();
    for (size_t i = 0; i < answers.size(); ++i)
      json["choices"].push_back(one(static_cast<int>(i), echoes_[i / n_] + answers[i].text,
                                    answers[i].finish, answers[i].tokens));
    json["usage"] = usage.json();
    return json;
  }

 private:
  Json head() const {
    return {{"id", id_},
            {"object", "text_completion"},
            {"created", created_},
            {"model", app_.model_name}};
  }
  Json one(int index, const std::string& text, Json finish,
           const std::vector<LoggedToken>& tokens) {
    Json logprobs = nullptr;
    if (logprobs_) {
      logprobs = {{"tokens", Json::array()},
                  {"token_logprobs", Json::array()},
                  {"top_logprobs", Json::array()},
                  {"text_offset", Json::array()}};
      for (const LoggedToken& t : tokens) {
        const std::string text = spelling(app_, t.id);
        Json top = Json::object();
        for (const auto& [id, logprob] : t.top) top[spelling(app_, id)] = logprob;
        logprobs["tokens"].push_back(text);
        logprobs["token_logprobs"].push_back(t.logprob);
        logprobs["top_logprobs"].push_back(std::move(top));
        logprobs["text_offset"].push_back(offsets_[index]);
        offsets_[index] += text.size();
      }
    }
    return {{"index", index},
            {"text", text},
            {"logprobs", std::move(logprobs)},
            {"finish_reason", std::move(finish)}};
  }
  Json choice(int index, const std::string& text, Json finish,
              const std::vector<LoggedToken>& tokens) {
    Json json = head();
    json["choices"] = Json::array({one(index, text, std::move(finish), tokens)});
    return json;
  }

  const App& app_;
  const bool logprobs_;
  const std::vector<std::string> echoes_;  // [prompts]
  const int n_;
  std::vector<size_t> offsets_;  // [prompts * n], in bytes
  const std::string id_ = random_id("cmpl-");
  const int64_t created_ = static_cast<int64_t>(std::time(nullptr));
};

// The model asked for must be the one that is served, if one is named.
void check_model(Fields& fields, const App& app) {
  const std::string model = fields.text("model", app.model_name);
  if (model != app.model_name)
    fields.fail("model", fmt::format("is {}; only {} is served here", model, app.model_name));
}

void log_unknown(const Fields& fields) {
  for (const std::string& name : fields.unknown())
    spdlog::info("a request has a field {} that means nothing here", name);
}

// What a message says: a text, or parts of type text.
Json read_message(Fields& fields, const Json& message, size_t i) {
  const std::string where = fmt::format("messages[{}]", i);
  Json read = message;
  if (!message.is_object() || !message.contains("role") || !message["role"].is_string()) {
    fields.fail(where, "must be an object with a role");
    return read;
  }
  if (message["role"] == "developer") read["role"] = "system";
  const auto content = message.find("content");
  if (content == message.end() || content->is_null()) {
    if (!message.contains("tool_calls"))
      fields.fail(where + ".content", "must be a string or a list of parts");
    read["content"] = "";
  } else if (content->is_array()) {
    std::string text;
    for (const Json& part : *content) {
      if (!part.is_object() || part.value("type", "") != "text" || !part.contains("text") ||
          !part["text"].is_string()) {
        fields.fail(where + ".content", "may hold parts of type text only");
        return read;
      }
      text += part["text"].get<std::string>();
    }
    read["content"] = text;
  } else if (!content->is_string()) {
    fields.fail(where + ".content", "must be a string or a list of parts");
  }
  return read;
}

std::vector<TokenId> chat_prompt(Fields& fields, const App& app) {
  chat::Conversation conversation;
  conversation.messages = Json::array();
  const Json* messages = fields.find("messages");
  if (!messages || !messages->is_array() || messages->empty()) {
    fields.fail("messages", "must be a list of at least one message");
    return {};
  }
  for (size_t i = 0; i < messages->size(); ++i)
    conversation.messages.push_back(read_message(fields, (*messages)[i], i));
  if (const Json* extra = fields.find("chat_template_kwargs")) {
    if (!extra->is_object()) fields.fail("chat_template_kwargs", "must be an object");
    conversation.extra = *extra;
  }
  if (fields.error()) return {};
  const Tokenizer& tokenizer = *app.tokenizer;
  if (const auto id = tokenizer.bos())
    conversation.bos_token = std::string(tokenizer.token_text(*id));
  if (const auto id = tokenizer.eos())
    conversation.eos_token = std::string(tokenizer.token_text(*id));
  const auto rendered = chat::render_chat(*app.chat_template, conversation);
  if (!rendered) {
    fields.fail("messages",
                "do not go through the model's chat template: " + rendered.error().message);
    return {};
  }
  std::vector<TokenId> tokens = app.segments->encode(*rendered);
  if (const auto bos = tokenizer.bos();
      tokenizer.adds_bos() && bos && (tokens.empty() || tokens[0] != *bos))
    tokens.insert(tokens.begin(), *bos);
  return tokens;
}

void chat(App& app, std::shared_ptr<Exchange> exchange, const std::string& account) {
  const auto body = parse_body(exchange->request().body);
  if (!body) return reply(*exchange, api_error(body.error()));
  Fields fields(*body);
  check_model(fields, app);
  GenerationRequest request = read_generation(fields, app);
  request.max_tokens = fields.integer("max_completion_tokens",
                                      fields.integer("max_tokens", 0, 1, 1 << 30), 1, 1 << 30);
  const bool logprobs = fields.flag("logprobs", false);
  const int64_t top = fields.integer("top_logprobs", 0, 0, 20);
  if (top > 0 && !logprobs) fields.fail("top_logprobs", "needs logprobs to be true");
  if (logprobs) request.top_logprobs = static_cast<int>(top);
  fields.only("tools");
  fields.only("tool_choice", "none");
  fields.only("functions");
  fields.only("function_call", "none");
  fields.only("audio");
  fields.only("modalities", Json::array({"text"}));
  fields.only("prediction");
  fields.only("web_search_options");
  fields.ignore({"user", "store", "metadata", "service_tier", "parallel_tool_calls",
                 "reasoning_effort", "safety_identifier", "prompt_cache_key", "verbosity"});
  if (!fields.error()) request.prompts = {chat_prompt(fields, app)};
  if (fields.error()) return reply(*exchange, *fields.error());
  log_unknown(fields);
  generate(app, std::move(exchange), account, std::move(request),
           std::make_unique<ChatFormat>(app, logprobs));
}

// A text, a list of token ids, or a list of either.
std::vector<std::vector<TokenId>> text_prompts(Fields& fields, const App& app) {
  const Json* prompt = fields.find("prompt");
  const auto ids = [&](const Json& list) -> std::vector<TokenId> {
    std::vector<TokenId> tokens;
    for (const Json& id : list) {
      if (!id.is_number_integer() || id.get<int64_t>() < 0 ||
          id.get<int64_t>() >= app.tokenizer->vocab_size()) {
        fields.fail("prompt",
                    fmt::format("may hold token ids below {}", app.tokenizer->vocab_size()));
        return {};
      }
      tokens.push_back(id.get<TokenId>());
    }
    return tokens;
  };
  if (prompt && prompt->is_string()) return {app.tokenizer->encode(prompt->get<std::string>())};
  if (prompt && prompt->is_array() && !prompt->empty() && prompt->size() <= 1 << 20) {
    if ((*prompt)[0].is_number()) return {ids(*prompt)};
    std::vector<std::vector<TokenId>> prompts;
    if (prompt->size() > 256) {
      fields.fail("prompt", "may hold at most 256 prompts");
      return {};
    }
    for (const Json& one : *prompt) {
      if (one.is_string()) {
        prompts.push_back(app.tokenizer->encode(one.get<std::string>()));
      } else if (one.is_array()) {
        prompts.push_back(ids(one));
      } else {
        fields.fail("prompt", "must be a string, a list of token ids, or a list of either");
        return {};
      }
    }
    return prompts;
  }
  fields.fail("prompt", "must be a string, a list of token ids, or a list of either");
  return {};
}

void completions(App& app, std::shared_ptr<Exchange> exchange, const std::string& account) {
  const auto body = parse_body(exchange->request().body);
  if (!body) return reply(*exchange, api_error(body.error()));
  Fields fields(*body);
  check_model(fields, app);
  GenerationRequest request = read_generation(fields, app);
  request.max_tokens = fields.integer("max_tokens", 16, 1, 1 << 30);
  const int64_t logprobs = fields.integer("logprobs", -1, 0, 20);
  request.top_logprobs = static_cast<int>(logprobs);
  const bool echo = fields.flag("echo", false);
  if (echo && logprobs >= 0) fields.fail("echo", "with logprobs of the prompt is not supported");
  fields.only("suffix", "");
  fields.only("best_of", request.n);
  fields.ignore({"user"});
  if (!fields.error()) request.prompts = text_prompts(fields, app);
  if (fields.error()) return reply(*exchange, *fields.error());
  log_unknown(fields);
  std::vector<std::string> echoes(request.prompts.size());
  if (echo)
    for (size_t i = 0; i < echoes.size(); ++i)
      echoes[i] = app.tokenizer->decode(request.prompts[i]);
  const int n = request.n;
  generate(app, std::move(exchange), account, std::move(request),
           std::make_unique<TextFormat>(app, logprobs >= 0, std::move(echoes), n));
}

}  // namespace

extern const Routes routes_completions;
const Routes routes_completions{
    {{"POST", "/v1/chat/completions", chat}, {"POST", "/v1/completions", completions}}};

}  // namespace venturi::server
