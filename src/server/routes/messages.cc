// Anthropic: POST /v1/messages and /v1/messages/count_tokens.
#include "server/generation.h"

namespace venturi::server {

namespace {

std::string error_body(const ApiError& error) {
  const char* type = "invalid_request_error";
  if (error.status == 401) type = "authentication_error";
  if (error.status == 404) type = "not_found_error";
  if (error.status == 429) type = "rate_limit_error";
  if (error.status >= 500) type = error.status == 503 ? "overloaded_error" : "api_error";
  return dump(Json{{"type", "error"}, {"error", {{"type", type}, {"message", error.message}}}});
}

void refuse(Exchange& exchange, const ApiError& error) { reply(exchange, error, error_body(error)); }

std::string event(const Json& json) { return fmt::format("event: {}\ndata: {}\n\n", json["type"].get<std::string>(), dump(json)); }

class MessageFormat : public AnswerFormat {
 public:
  explicit MessageFormat(const App& app) : app_(app) {}

  std::string first(int, const Usage& usage) override {
    Json message = head();
    message["content"] = Json::array();
    message["stop_reason"] = message["stop_sequence"] = nullptr;
    message["usage"] = {{"input_tokens", usage.prompt}, {"output_tokens", 0}};
    return event({{"type", "message_start"}, {"message", std::move(message)}}) +
           event({{"type", "content_block_start"}, {"index", 0}, {"content_block", {{"type", "text"}, {"text", ""}}}}) +
           event({{"type", "ping"}});
  }
  std::string delta(int, const std::string& text, const std::vector<LoggedToken>&) override {
    return event({{"type", "content_block_delta"}, {"index", 0}, {"delta", {{"type", "text_delta"}, {"text", text}}}});
  }
  std::string last(int, const Answer& answer, const Usage&) override {
    return event({{"type", "content_block_stop"}, {"index", 0}}) +
           event({{"type", "message_delta"}, {"delta", ending(answer)}, {"usage", {{"input_tokens", usage.prompt - usage.cached}, {"cache_read_input_tokens", usage.cached},
                                                {"output_tokens", answer.n_tokens}}}});
  }
  std::string end(const Usage&) override { return event({{"type", "message_stop"}}); }
  std::string stream_error(const ApiError& error) override { return "event: error\ndata: " + error_body(error) + "\n\n"; }
  std::string error(const ApiError& error) const override { return error_body(error); }
  Json whole(const std::vector<Answer>& answers, const Usage& usage) override {
    Json message = head();
    message["content"] = Json::array({{{"type", "text"}, {"text", answers[0].text}}});
    message.update(ending(answers[0]));
    message["usage"] = {{"input_tokens", usage.prompt - usage.cached}, {"cache_read_input_tokens", usage.cached},
                        {"output_tokens", usage.completion}};
    return message;
  }

 private:
  Json head() const {
    return {{"id", id_}, {"type", "message"}, {"role", "assistant"}, {"model", app_.model_name}};
  }
  static Json ending(const Answer& answer) {
    const char* reason = !answer.stop.empty() ? "stop_sequence" : answer.finish == "length" ? "max_tokens" : "end_turn";
    return {{"stop_reason", reason}, {"stop_sequence", answer.stop.empty() ? Json(nullptr) : Json(answer.stop)}};
  }

  const App& app_;
  const std::string id_ = random_id("msg_");
};

// The messages as a template takes them: the system text is the first.
std::vector<TokenId> prompt_of(Fields& fields, const App& app) {
  Json messages = Json::array();
  if (const Json* system = fields.find("system")) messages.push_back({{"role", "system"}, {"content", *system}});
  const Json* given = fields.find("messages");
  if (!given || !given->is_array() || given->empty()) {
    fields.fail("messages", "must be a list of at least one message");
    return {};
  }
  for (const Json& message : *given) {
    if (message.is_object() && message.contains("role") && message["role"] != "user" && message["role"] != "assistant")
      fields.fail("messages", "may have the roles user and assistant only; the system text is a field of its own");
    messages.push_back(message);
  }
  fields.only("tools");
  fields.only("thinking", Json{{"type", "disabled"}});
  fields.only("mcp_servers");
  return chat_prompt(fields, app, &messages, nullptr);
}

void messages(App& app, std::shared_ptr<Exchange> exchange, const std::string& account) {
  const auto body = parse_body(exchange->request().body);
  if (!body) return refuse(*exchange, api_error(body.error()));
  Fields fields(*body);
  check_model(fields, app);
  GenerationRequest request;
  request.sampling = {.temperature = static_cast<float>(fields.number("temperature", 1, 0, 2)),
                      .top_k = static_cast<int32_t>(fields.integer("top_k", 0, 0, 1 << 30)),
                      .top_p = static_cast<float>(fields.number("top_p", 1, 0, 1)),
                      .min_p = 0,
                      .logit_bias = {},
                      .seed = random_seed()};
  if (!fields.find("max_tokens")) fields.fail("max_tokens", "is required");
  request.max_tokens = fields.integer("max_tokens", 1, 1, 1 << 30);
  request.stops = fields.texts("stop_sequences", 16);
  for (const std::string& stop : request.stops)
    if (stop.empty() || stop.size() > 4096) fields.fail("stop_sequences", "must hold texts of 1 to 4096 bytes");
  request.stream = fields.flag("stream", false);
  fields.ignore({"metadata", "service_tier", "tool_choice"});
  if (!fields.error()) request.prompts = {prompt_of(fields, app)};
  if (fields.error()) return refuse(*exchange, *fields.error());
  log_unknown(fields);
  generate(app, std::move(exchange), account, std::move(request), std::make_unique<MessageFormat>(app));
}

void count_tokens(App& app, std::shared_ptr<Exchange> exchange, const std::string&) {
  const auto body = parse_body(exchange->request().body);
  if (!body) return refuse(*exchange, api_error(body.error()));
  Fields fields(*body);
  check_model(fields, app);
  const std::vector<TokenId> tokens = prompt_of(fields, app);
  if (fields.error()) return refuse(*exchange, *fields.error());
  reply(*exchange, Json{{"input_tokens", tokens.size()}});
}

}  // namespace

extern const Routes routes_messages;
const Routes routes_messages{{{"POST", "/v1/messages", messages}, {"POST", "/v1/messages/count_tokens", count_tokens}}, error_body};

}  // namespace venturi::server
