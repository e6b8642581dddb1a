// Anthropic: POST /v1/messages and /v1/messages/count_tokens.
#include "server/generation.h"

namespace venturi::server {

namespace {

std::string error_body(const ApiError& error) {
  const char* type = "invalid_request_error";
  if (error.status == 401) type = "authentication_error";
  if (error.status == 403) type = "permission_error";
  if (error.status == 404) type = "not_found_error";
  if (error.status == 413) type = "request_too_large";
  if (error.status == 429) type = "rate_limit_error";
  if (error.status >= 500) type = error.status == 503 ? "overloaded_error" : "api_error";
  return dump(Json{{"type", "error"}, {"error", {{"type", type}, {"message", error.message}}}});
}

void refuse(Exchange& exchange, const ApiError& error) { reply(exchange, error, error_body(error)); }

std::string event(const Json& json) { return fmt::format("event: {}\ndata: {}\n\n", json["type"].get<std::string>(), dump(json)); }

class MessageFormat : public AnswerFormat {
 public:
  explicit MessageFormat(const Target& target) : target_(target) {}

  std::string first(int, const Usage& usage) override {
    Json message = head();
    message["content"] = Json::array();
    message["stop_reason"] = message["stop_sequence"] = nullptr;
    message["usage"] = {{"input_tokens", usage.prompt}, {"output_tokens", 0}};
    return event({{"type", "message_start"}, {"message", std::move(message)}}) +
           event({{"type", "ping"}});
  }
  std::string delta(int, const std::string& text, const std::vector<LoggedToken>&) override {
    std::string out;
    if (open_ != Block::kText) out = open(Block::kText, {{"type", "text"}, {"text", ""}});
    return out + piece({{"type", "text_delta"}, {"text", text}});
  }
  std::string call_begins(int, int, const ToolCall& call) override {
    return open(Block::kCall, {{"type", "tool_use"}, {"id", call.id}, {"name", call.name}, {"input", Json::object()}});
  }
  std::string call_arguments(int, int, const std::string& more) override {
    return piece({{"type", "input_json_delta"}, {"partial_json", more}});
  }
  std::string call_ends(int, int, const ToolCall&) override { return close(); }
  const char* call_prefix() const override { return "toolu_"; }
  std::string last(int, const Answer& answer, const Usage& usage) override {
    std::string out = close();
    if (n_blocks_ == 0) {
      out = open(Block::kText, {{"type", "text"}, {"text", ""}});
      out += close();
    }
    Json json = {{"type", "message_delta"}, {"delta", ending(answer)}, {"usage", counts(usage, answer.n_tokens)}};
    usage.add_timings(json);
    return out + event(json);
  }
  std::string end(const Usage&) override { return event({{"type", "message_stop"}}); }
  std::string stream_error(const ApiError& error) override { return "event: error\ndata: " + error_body(error) + "\n\n"; }
  std::string error(const ApiError& error) const override { return error_body(error); }
  std::string whole(const std::vector<Answer>& answers, const Usage& usage) override {
    Json message = head();
    message["content"] = Json::array();
    for (const AnswerPiece& piece : answers[0].pieces()) {
      if (!piece.call) {
        message["content"].push_back({{"type", "text"}, {"text", piece.text}});
      } else if (auto input = piece.call->object()) {  // what was cut off is no call of anything
        message["content"].push_back({{"type", "tool_use"}, {"id", piece.call->id}, {"name", piece.call->name}, {"input", std::move(*input)}});
      }
    }
    if (message["content"].empty()) message["content"].push_back({{"type", "text"}, {"text", ""}});
    message.update(ending(answers[0]));
    message["usage"] = counts(usage, usage.completion);
    return dump(message);
  }

 private:
  static Json counts(const Usage& usage, int64_t drawn) {
    return {{"input_tokens", usage.prompt - usage.cached}, {"cache_read_input_tokens", usage.cached}, {"output_tokens", drawn}};
  }
  enum class Block { kNone, kText, kCall };
  std::string open(Block kind, Json block) {
    const std::string before = close();
    open_ = kind;
    return before + event({{"type", "content_block_start"}, {"index", n_blocks_++}, {"content_block", std::move(block)}});
  }
  std::string piece(Json delta) const {
    return event({{"type", "content_block_delta"}, {"index", n_blocks_ - 1}, {"delta", std::move(delta)}});
  }
  std::string close() {
    if (std::exchange(open_, Block::kNone) == Block::kNone) return "";
    return event({{"type", "content_block_stop"}, {"index", n_blocks_ - 1}});
  }
  Json head() const {
    return {{"id", id_}, {"type", "message"}, {"role", "assistant"}, {"model", target_.name}};
  }
  static Json ending(const Answer& answer) {
    const char* reason = "end_turn";
    if (answer.finish == "length") reason = "max_tokens";
    if (answer.finish == "tool_calls") reason = "tool_use";
    if (!answer.stop.empty()) reason = "stop_sequence";
    return {{"stop_reason", reason}, {"stop_sequence", answer.stop.empty() ? Json(nullptr) : Json(answer.stop)}};
  }

  const Target target_;
  const std::string id_ = random_id("msg_");
  Block open_ = Block::kNone;
  int n_blocks_ = 0;
};

ToolUse tools_of(Fields& fields) {
  std::vector<Json> functions;
  const Json* tools = fields.find("tools");
  if (tools && !tools->is_array()) fields.fail("tools", "must be a list");
  for (const Json& tool : tools && tools->is_array() ? *tools : Json::array()) {
    if (!tool.is_object() || tool.value("type", Json("custom")) != "custom") {
      fields.fail("tools", "may hold tools of the client's own only");
      return {};
    }
    fields.look_within(tool, "tools[].", {"type", "name", "description", "input_schema", "strict", "cache_control"});
    Json function = {{"name", tool.value("name", Json())}};
    if (tool.contains("description")) function["description"] = tool["description"];
    if (tool.contains("input_schema")) function["parameters"] = tool["input_schema"];
    if (tool.contains("strict")) function["strict"] = tool["strict"];
    functions.push_back(std::move(function));
  }
  ToolChoice choice;
  if (const Json* given = fields.find("tool_choice")) {
    Fields inner(*given, "tool_choice.");
    const std::string type = inner.text("type", "");
    using Mode = ToolChoice::Mode;
    choice.several = !inner.flag("disable_parallel_tool_use", false);
    if (type == "tool") choice = {Mode::kNamed, inner.text("name", ""), false};
    else if (type == "any") choice.mode = Mode::kRequired;
    else if (type == "none") choice.mode = Mode::kNone;
    else if (type != "auto") inner.fail("type", "must be auto, any, tool or none");
    if (inner.error()) fields.fail("tool_choice", "must be an object with a type of auto, any, none, or tool with a name");
    fields.take(inner);
  }
  return fields.error() ? ToolUse{} : use_tools(fields, functions, choice);
}

// The content of a tool_result: a text, or blocks of text. That it is an error is said in it, for templates have no word
// for that.
std::string result_text(Fields& fields, const std::string& where, const Json& result) {
  Fields inner(result, where + ".");
  std::string text = inner.flag("is_error", false) ? "Error: " : "";
  const Json* content = inner.find("content");
  if (content && content->is_string()) text += content->get<std::string>();
  else if (content && !content->is_array()) inner.fail("content", "must be a string or a list of blocks");
  for (const Json& block : content && content->is_array() ? *content : Json::array()) {
    if (block.is_object() && block.value("type", Json()) == "text" && block.value("text", Json()).is_string()) text += block["text"].get<std::string>();
    else inner.fail("content", "may hold blocks of type text only");
  }
  fields.take_error(inner);
  return text;
}

// One message of blocks as the messages of OpenAI's form that it stands for.
void unfold(Fields& fields, const std::string& where, const Json& message, Json& into) {
  if (!message.is_object() || !message.value("content", Json()).is_array()) {
    into.push_back(message);
    return;
  }
  fields.look_within(message, "messages[].", {"role", "content"});
  Json rest = {{"role", message.value("role", Json())}, {"content", Json::array()}};
  for (size_t i = 0; i < message["content"].size(); ++i) {
    const Json& block = message["content"][i];
    const Json type = block.is_object() ? block.value("type", Json()) : Json();
    fields.look_within(block, "messages[].content[].", {"type", "text", "id", "name", "input", "tool_use_id", "content", "is_error", "cache_control", "citations", "caller"});
    if (type == "tool_result") {
      into.push_back({{"role", "tool"},
                      {"tool_call_id", block.value("tool_use_id", Json())},
                      {"content", result_text(fields, fmt::format("{}.content[{}]", where, i), block)}});
    } else if (type == "tool_use") {
      rest["tool_calls"].push_back({{"id", block.value("id", Json())},
                                    {"type", "function"},
                                    {"function", {{"name", block.value("name", Json())}, {"arguments", block.value("input", Json::object())}}}});
    } else if (type == "text") {
      rest["content"].push_back({{"type", "text"}, {"text", block.value("text", Json())}});
    } else {
      fields.fail("messages", "may hold blocks of the types text, tool_use and tool_result only");
    }
  }
  if (!rest["content"].empty() || rest.contains("tool_calls")) into.push_back(std::move(rest));
}

// The messages as a template takes them: the system text is the first.
std::vector<TokenId> prompt_of(Fields& fields, const ServedModel& model, const ToolUse& tools, bool any_length = false) {
  Json messages = Json::array();
  if (const Json* system = fields.find("system")) messages.push_back({{"role", "system"}, {"content", *system}});
  const Json* given = fields.find("messages");
  if (!given || !given->is_array() || given->empty()) {
    fields.fail("messages", "must be a list of at least one message");
    return {};
  }
  for (size_t i = 0; i < given->size(); ++i) {
    const Json& message = (*given)[i];
    if (message.is_object() && message.contains("role") && message["role"] != "user" && message["role"] != "assistant")
      fields.fail("messages", "may have the roles user and assistant only; the system text is a field of its own");
    unfold(fields, fmt::format("messages[{}]", i), message, messages);
  }
  fields.only("thinking", Json{{"type", "disabled"}});
  for (const char* name : {"mcp_servers", "container", "context_management", "output_config", "output_format"}) fields.only(name);
  return fields.error() ? std::vector<TokenId>{} : chat_prompt(fields, model, &messages, nullptr, tools, any_length);
}

void messages(Call call) {
  const ServedModel& model = *call.target;
  Fields fields(call.body);
  fields.ignore({"model"});
  GenerationRequest request;
  request.sampling = {.temperature = static_cast<float>(fields.number("temperature", 1, 0, 2)),
                      .top_k = static_cast<int32_t>(fields.integer("top_k", 0, 0, 1 << 30)),
                      .top_p = static_cast<float>(fields.number("top_p", 1, 0, 1)),
                      .min_p = 0,
                      .logit_bias = {},
                      .seed = static_cast<uint64_t>(fields.integer("seed", static_cast<int64_t>(random_seed()), INT64_MIN, INT64_MAX))};
  if (!fields.find("max_tokens")) fields.fail("max_tokens", "is required");
  request.max_tokens = fields.integer("max_tokens", 1, 1, 1 << 30);
  request.stops = fields.texts("stop_sequences", 16);
  for (const std::string& stop : request.stops)
    if (stop.empty() || stop.size() > 4096) fields.fail("stop_sequences", "must hold texts of 1 to 4096 bytes");
  request.stream = fields.flag("stream", false);
  request.timings = wants_timings(fields);
  fields.ignore({"metadata", "service_tier"});
  refuse_known_elsewhere(fields);
  for (const char* name : {"response_format", "grammar", "json_schema", "guided_json", "stop", "max_completion_tokens", "logprobs", "top_logprobs", "logit_bias"})
    fields.only(name);
  for (const char* name : {"presence_penalty", "frequency_penalty", "min_p", "mirostat"}) fields.only(name, 0);
  for (const char* name : {"n", "repetition_penalty", "repeat_penalty", "typical_p"}) fields.only(name, 1);
  request.tools = tools_of(fields);
  request.grammar = hold(fields, model, request.tools, "", nullptr);
  if (!fields.error()) request.prompts = {prompt_of(fields, model, request.tools)};
  if (fields.error()) return refuse(*call.exchange, *fields.error());
  log_unknown(fields);
  auto format = std::make_unique<MessageFormat>(call.target);
  generate(std::move(call), std::move(request), std::move(format));
}

void count_tokens(Call call) {
  const ServedModel& model = *call.target;
  Fields fields(call.body);
  fields.ignore({"model"});
  const std::vector<TokenId> tokens = prompt_of(fields, model, tools_of(fields), true);
  if (fields.error()) return refuse(*call.exchange, *fields.error());
  log_unknown(fields);
  reply(*call.exchange, Json{{"input_tokens", tokens.size()}});
}

}  // namespace

extern const Routes routes_messages;
const Routes routes_messages{{{"POST", "/v1/messages", messages, Needs::kModel}, {"POST", "/v1/messages/count_tokens", count_tokens, Needs::kModel}}, error_body};

}  // namespace venturi::server
