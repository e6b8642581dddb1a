// OpenAI: POST /v1/responses, without memory: what is said before comes with each request.
#include <algorithm>
#include <ctime>

#include "server/generation.h"

namespace venturi::server {

namespace {

class ResponseFormat : public AnswerFormat {
 public:
  ResponseFormat(const Target& target, Json repeated) : target_(target), repeated_(std::move(repeated)) {}

  std::string first(int, const Usage&) override {
    const Json response = object("in_progress", nullptr, Json::array());
    const std::string created = event({{"type", "response.created"}, {"response", response}});
    return created + event({{"type", "response.in_progress"}, {"response", response}});
  }
  std::string delta(int, const std::string& text, const std::vector<LoggedToken>&) override {
    std::string out = open_ == "message" ? "" : begin_message();
    item_["content"][0]["text"].get_ref<std::string&>() += text;
    return out +
           part_event("response.output_text.delta", {{"delta", text}, {"logprobs", Json::array()}});
  }
  std::string call_begins(int, int, const ToolCall& call) override {
    const std::string out = close();
    return out + open(call_item(call, "in_progress"));
  }
  std::string call_arguments(int, int, const std::string& more) override {
    item_["arguments"].get_ref<std::string&>() += more;
    return item_event("response.function_call_arguments.delta", {{"delta", more}});
  }
  std::string call_ends(int, int, const ToolCall&) override { return close(); }
  std::string last(int, const Answer& answer, const Usage&) override {
    finish_ = answer.finish;
    std::string out;
    if (items_.empty() && open_.empty()) out = begin_message();
    return out + close();
  }
  std::string end(const Usage& usage) override {
    const bool cut = finish_ == "length";
    Json response = object(cut ? "incomplete" : "completed", usage_json(usage), items_);
    usage.add_timings(response);
    return event({{"type", cut ? "response.incomplete" : "response.completed"},
                  {"response", std::move(response)}});
  }
  std::string stream_error(const ApiError& error) override {
    return event({{"type", "error"},
                  {"code", error.code.empty() ? error.type : error.code},
                  {"message", error.message},
                  {"param", nullptr}});
  }
  Json whole(const std::vector<Answer>& answers, const Usage& usage) override {
    const Answer& answer = answers[0];
    finish_ = answer.finish;
    const char* status = finish_ == "length" ? "incomplete" : "completed";
    Json items = Json::array();
    if (!answer.text.empty() || answer.calls.empty()) {
      Json message = message_item(status);
      message["content"].push_back(text_part(answer.text));
      items.push_back(std::move(message));
    }
    for (const ToolCall& call : answer.calls) {
      Json item = call_item(call, status);
      item["arguments"] = call.arguments;
      items.push_back(std::move(item));
    }
    return object(status, usage_json(usage), std::move(items));
  }

 private:
  static Json text_part(const std::string& text) {
    return {{"type", "output_text"},
            {"text", text},
            {"annotations", Json::array()},
            {"logprobs", Json::array()}};
  }
  static Json message_item(const char* status) {
    return {{"id", random_id("msg_")},
            {"type", "message"},
            {"status", status},
            {"role", "assistant"},
            {"content", Json::array()}};
  }
  static Json call_item(const ToolCall& call, const char* status) {
    return {{"id", random_id("fc_")}, {"type", "function_call"}, {"status", status},
            {"call_id", call.id},     {"name", call.name},       {"arguments", ""}};
  }
  static Json usage_json(const Usage& usage) {
    return {{"input_tokens", usage.prompt},
            {"input_tokens_details", {{"cached_tokens", usage.cached}}},
            {"output_tokens", usage.completion},
            {"output_tokens_details", {{"reasoning_tokens", 0}}},
            {"total_tokens", usage.prompt + usage.completion}};
  }

  Json object(const std::string& status, Json usage, Json output) const {
    Json json = {{"id", id_},
                 {"object", "response"},
                 {"created_at", created_},
                 {"status", status},
                 {"error", nullptr}};
    json["incomplete_details"] =
        status == "incomplete" ? Json{{"reason", "max_output_tokens"}} : Json(nullptr);
    json["model"] = target_.name;
    json["output"] = std::move(output);
    json["previous_response_id"] = nullptr;
    json["store"] = false;
    json["usage"] = std::move(usage);
    json.update(repeated_);
    return json;
  }

  std::string event(Json json) {
    json["sequence_number"] = n_events_++;
    return fmt::format("event: {}\ndata: {}\n\n", json["type"].get<std::string>(), dump(json));
  }
  std::string item_event(const char* type, Json more) {
    Json json = {{"type", type}, {"item_id", item_["id"]}, {"output_index", items_.size()}};
    json.update(more);
    return event(std::move(json));
  }
  std::string part_event(const char* type, Json more) {
    more["content_index"] = 0;
    return item_event(type, std::move(more));
  }
  std::string open(Json item) {
    item_ = std::move(item);
    open_ = item_["type"];
    return event(
        {{"type", "response.output_item.added"}, {"output_index", items_.size()}, {"item", item_}});
  }
  std::string begin_message() {
    std::string out = close();
    out += open(message_item("in_progress"));
    item_["content"].push_back(text_part(""));
    return out + part_event("response.content_part.added", {{"part", text_part("")}});
  }
  std::string close() {
    if (open_.empty()) return "";
    std::string out;
    item_["status"] = finish_ == "length" ? "incomplete" : "completed";
    if (open_ == "message") {
      const Json& part = item_["content"][0];
      out = part_event("response.output_text.done",
                       {{"text", part["text"]}, {"logprobs", Json::array()}});
      out += part_event("response.content_part.done", {{"part", part}});
    } else {
      out = item_event("response.function_call_arguments.done",
                       {{"name", item_["name"]}, {"arguments", item_["arguments"]}});
    }
    out += event(
        {{"type", "response.output_item.done"}, {"output_index", items_.size()}, {"item", item_}});
    items_.push_back(std::exchange(item_, Json()));
    open_.clear();
    return out;
  }

  const Target target_;
  const Json repeated_;
  const std::string id_ = random_id("resp_");
  const int64_t created_ = static_cast<int64_t>(std::time(nullptr));
  std::string open_;  // the type of the item that is being written
  Json item_, items_ = Json::array();
  std::string finish_;
  int64_t n_events_ = 0;
};

// Texts of parts input_text and output_text as OpenAI's chat has them; others as they are, to be
// refused.
Json chat_content(const Json& content) {
  if (!content.is_array()) return content;
  Json parts = Json::array();
  for (const Json& part : content) {
    Json one = part;
    if (part.is_object())
      for (const char* type : {"input_text", "output_text"})
        if (part.value("type", Json()) == type) one["type"] = "text";
    parts.push_back(std::move(one));
  }
  return parts;
}

Json messages_of(Fields& fields) {
  Json messages = Json::array();
  const std::string instructions = fields.text("instructions", "");
  if (!instructions.empty()) messages.push_back({{"role", "system"}, {"content", instructions}});
  const Json* input = fields.find("input");
  if (input && input->is_string()) {
    messages.push_back({{"role", "user"}, {"content", *input}});
    return messages;
  }
  if (!input || !input->is_array() || input->empty()) {
    fields.fail("input", "must be a string or a list of items");
    return messages;
  }
  for (size_t i = 0; i < input->size(); ++i) {
    const Json& item = (*input)[i];
    const Json type = item.is_object() ? item.value("type", Json("message")) : Json();
    fields.look_within(item, "input[].", {"type", "role", "content", "id", "status", "call_id", "name", "arguments", "output", "summary", "encrypted_content", "phase"});
    if (type == "message") {
      messages.push_back({{"role", item.value("role", Json())},
                          {"content", chat_content(item.value("content", Json()))}});
    } else if (type == "function_call") {
      // Those of one answer are one message, with its text.
      if (messages.empty() || messages.back()["role"] != "assistant")
        messages.push_back({{"role", "assistant"}, {"content", ""}});
      messages.back()["tool_calls"].push_back(
          {{"id", item.value("call_id", Json())},
           {"type", "function"},
           {"function",
            {{"name", item.value("name", Json())},
             {"arguments", item.value("arguments", Json("{}"))}}}});
    } else if (type == "function_call_output") {
      messages.push_back({{"role", "tool"},
                          {"tool_call_id", item.value("call_id", Json())},
                          {"content", chat_content(item.value("output", Json()))}});
    } else if (type != "reasoning") {
      fields.fail(fmt::format("input[{}]", i),
                  "must be a message, a function_call or a function_call_output");
    }
  }
  return messages;
}

std::vector<Json> functions_of(Fields& fields) {
  std::vector<Json> functions;
  const Json* tools = fields.find("tools");
  if (tools && !tools->is_array()) fields.fail("tools", "must be a list");
  for (const Json& tool : tools && tools->is_array() ? *tools : Json::array()) {
    if (!tool.is_object() || tool.value("type", Json()) != "function") {
      fields.fail("tools", "may hold functions only");
      break;
    }
    fields.look_within(tool, "tools[].", {"type", "name", "description", "parameters", "strict"});
    Json function = {{"name", tool.value("name", Json())}};
    for (const char* key : {"description", "parameters", "strict"})
      if (tool.contains(key)) function[key] = tool[key];
    functions.push_back(std::move(function));
  }
  return functions;
}

// text.format as the response_format that chat completions have.
void read_format(Fields& fields, Json& chat) {
  const Json* text = fields.find("text");
  if (!text) return;
  const Json format = text->is_object() ? text->value("format", Json()) : Json();
  if (!text->is_object() || (!format.is_null() && !format.is_object()))
    return fields.fail("text", "must be an object whose format is an object");
  Fields inner(*text, "text.");
  inner.only("verbosity", "medium");
  inner.ignore({"format"});
  fields.take(inner);
  if (format.is_null()) return;
  fields.look_within(format, "text.format.", {"type", "name", "description", "schema", "strict"});
  chat["response_format"] = {{"type", format.value("type", Json())}};
  if (format.contains("schema")) chat["response_format"]["json_schema"] = {{"schema", format["schema"]}};
}

// What asks for more than an answer of a model that does not reason.
void read_extras(Fields& fields) {
  // No item has reasoning, so its content is never missing; clients that keep nothing always ask for it.
  if (const Json* include = fields.find("include"); include && *include != Json::array({"reasoning.encrypted_content"})) fields.only("include");
  if (const Json* reasoning = fields.find("reasoning")) {
    Fields inner(*reasoning, "reasoning.");
    inner.only("effort", "none");
    inner.only("summary");
    inner.only("generate_summary");
    fields.take(inner);
  }
  if (const Json* options = fields.find("stream_options")) {
    Fields inner(*options, "stream_options.");
    inner.only("include_obfuscation");
    fields.take(inner);
  }
  fields.only("max_tool_calls");
  fields.only("background");
  fields.only("truncation", "disabled");
  fields.only("top_logprobs", 0);
  fields.only("n", 1);
  for (const char* name : {"max_tokens", "max_completion_tokens", "response_format", "messages", "functions", "logprobs"}) fields.only(name);
}

ApiError renamed(ApiError error) {
  for (const auto& [from, to] :
       {std::pair<std::string, std::string>{"response_format.json_schema", "text.format"},
        {"response_format", "text.format"},
        {"messages", "input"}}) {
    if (!error.param.starts_with(from)) continue;
    error.param.replace(0, from.size(), to);
    if (error.message.starts_with(from)) error.message.replace(0, from.size(), to);
  }
  return error;
}

void responses(Call call) {
  const ServedModel& model = *call.target;
  const Json& body = call.body;
  Fields fields(body);
  fields.ignore({"model"});
  for (const char* name : {"previous_response_id", "conversation", "prompt"})
    if (fields.find(name))
      fields.fail(
          name,
          "is not supported: nothing is kept here between requests; send what was said in input");
  if (fields.flag("store", false))
    fields.fail("store", "must be false or absent: no response is kept here");
  read_extras(fields);
  fields.ignore({"metadata", "user", "service_tier", "safety_identifier", "prompt_cache_key"});
  const Json messages = messages_of(fields);
  const std::vector<Json> functions = functions_of(fields);
  // What is left means what it means to chat completions.
  Json chat = body.is_object() ? body : Json::object();
  for (const char* name : {"response_format", "n", "stream_options", "top_logprobs"})
    chat.erase(name);
  read_format(fields, chat);
  chat["tools"] = Json::array();
  for (const Json& function : functions)
    chat["tools"].push_back({{"type", "function"}, {"function", function}});
  Fields as_chat(chat);
  GenerationRequest request = read_generation(as_chat, model, nullptr, read_tools(as_chat));
  request.max_tokens = fields.integer("max_output_tokens", 0, 1, 1 << 30);
  if (!fields.error() && !as_chat.error())
    request.prompts = {chat_prompt(as_chat, model, &messages, nullptr, request.tools)};
  if (fields.error()) return reply(*call.exchange, *fields.error());
  if (as_chat.error()) return reply(*call.exchange, renamed(*as_chat.error()));
  log_unknown(fields, as_chat);

  Json repeated = Json::object();
  const auto repeat = [&](const char* name, Json otherwise) {
    const Json* given = fields.find(name);
    repeated[name] = given ? *given : std::move(otherwise);
  };
  repeat("instructions", nullptr);
  repeat("max_output_tokens", nullptr);
  repeat("metadata", Json::object());
  repeat("parallel_tool_calls", true);
  repeat("reasoning", {{"effort", nullptr}, {"summary", nullptr}});
  repeat("temperature", 1.0);
  repeat("text", {{"format", {{"type", "text"}}}});
  repeat("tool_choice", "auto");
  repeat("tools", Json::array());
  repeat("top_p", 1.0);
  repeat("truncation", "disabled");
  repeat("user", nullptr);
  auto format = std::make_unique<ResponseFormat>(call.target, std::move(repeated));
  generate(std::move(call), std::move(request), std::move(format));
}

}  // namespace

extern const Routes routes_responses;
const Routes routes_responses{{{"POST", "/v1/responses", responses, Needs::kModel}}};

}  // namespace venturi::server
