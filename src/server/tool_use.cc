#include "server/tool_use.h"

#include <algorithm>

#include "server/generation.h"

namespace venturi::server {

namespace {

constexpr size_t kMaxTools = 128;

bool is_name(const Json& name) {
  if (!name.is_string()) return false;
  const auto& text = name.get_ref<const std::string&>();
  return !text.empty() && text.size() <= 64 && std::all_of(text.begin(), text.end(), [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '-';
  });
}

ToolChoice read_choice(Fields& fields) {
  ToolChoice choice;
  choice.several = fields.flag("parallel_tool_calls", true);
  const Json* given = fields.find("tool_choice");
  using Mode = ToolChoice::Mode;
  if (!given || *given == "auto") return choice;
  if (*given == "none") {
    choice.mode = Mode::kNone;
  } else if (*given == "required") {
    choice.mode = Mode::kRequired;
  } else if (given->is_object() && given->value("type", Json()) == "function") {
    // {"function": {"name"}} of chat completions, {"name"} of responses.
    fields.look_within(*given, "tool_choice.", {"type", "function", "name"});
    const Json& holder = given->contains("function") ? (*given)["function"] : *given;
    choice.mode = Mode::kNamed;
    choice.several = false;
    if (holder.is_object() && holder.value("name", Json()).is_string())
      choice.name = holder["name"].get<std::string>();
    else
      fields.fail("tool_choice", "must name a function");
  } else {
    fields.fail("tool_choice", "must be none, auto, required or a function by its name");
  }
  return choice;
}

}  // namespace

ToolUse use_tools(Fields& fields, const std::vector<Json>& functions, const ToolChoice& choice) {
  using Mode = ToolChoice::Mode;
  ToolUse use;
  if (functions.size() > kMaxTools)
    fields.fail("tools", fmt::format("may hold at most {} functions", kMaxTools));
  Json all = Json::array(), callable = Json::array();
  std::vector<std::string> strictly;
  for (const Json& function : functions) {
    if (!function.is_object() || !is_name(function.value("name", Json()))) {
      fields.fail("tools", "must hold functions with names of 1 to 64 letters, digits, _ and -");
      return use;
    }
    const std::string name = function["name"];
    if (std::find(use.names.begin(), use.names.end(), name) != use.names.end())
      fields.fail("tools", fmt::format("has two functions named {}", name));
    const Json parameters = function.value("parameters", Json());
    if (!parameters.is_null() && !parameters.is_object())
      fields.fail("tools", fmt::format("has {}, whose parameters are not a JSON Schema", name));
    const Json strict = function.value("strict", Json());
    if (!strict.is_null() && !strict.is_boolean())
      fields.fail("tools", fmt::format("has {}, whose strict is neither true nor false", name));
    use.names.push_back(name);
    if (strict == true) strictly.push_back(name);
    Json shown = {{"type", "function"}, {"function", function}};
    shown["function"].erase("strict");  // a promise of ours, nothing for the model
    // Templates of some families read these without asking.
    if (!function.value("description", Json()).is_string()) shown["function"]["description"] = "";
    if (parameters.is_null())
      shown["function"]["parameters"] = {{"type", "object"}, {"properties", Json::object()}};
    if (choice.mode != Mode::kNamed || name == choice.name) callable.push_back(shown);
    all.push_back(std::move(shown));
  }
  if (choice.mode == Mode::kNamed && callable.empty())
    fields.fail("tool_choice", fmt::format("names {}, which is not among the tools", choice.name));
  if (choice.mode == Mode::kRequired && all.empty())
    fields.fail("tool_choice", "is required, and there are no tools");
  if (choice.mode == Mode::kNone || all.empty()) return use;
  use.tools = std::move(all);
  use.demand = {.tools = std::move(callable), .several = choice.several, .strict = std::move(strictly)};
  use.must = choice.mode != Mode::kAuto;
  return use;
}

std::vector<Json> read_functions(Fields& fields) {
  std::vector<Json> functions;
  const Json* tools = fields.find("tools");
  if (!tools) return functions;
  if (!tools->is_array()) {
    fields.fail("tools", "must be a list");
    return functions;
  }
  for (const Json& tool : *tools) {
    if (!tool.is_object() || tool.value("type", Json("function")) != "function" ||
        !tool.value("function", Json()).is_object()) {
      fields.fail("tools", "may hold functions only: {\"type\": \"function\", \"function\": {…}}");
      break;
    }
    fields.look_within(tool, "tools[].", {"type", "function"});
    fields.look_within(tool["function"], "tools[].function.", {"name", "description", "parameters", "strict"});
    functions.push_back(tool["function"]);
  }
  return functions;
}

ToolUse read_tools(Fields& fields) {
  const std::vector<Json> functions = read_functions(fields);
  const ToolChoice choice = read_choice(fields);
  return fields.error() ? ToolUse{} : use_tools(fields, functions, choice);
}

namespace {

// Where calling is free: the schemas of strict functions hold if they are called.
std::shared_ptr<const grammar::Automaton> hold_freely(Fields& fields, const ServedModel& model, const ToolUse& tools) {
  if (!tools.offered() || tools.demand.strict.empty()) return nullptr;
  if (!model.tool_format->bare && !model.tool_marks.empty()) {
    // A grammar is over text, and this mark is none.
    fields.fail("tools", fmt::format("has {}, which is strict: with this model that needs a tool_choice that demands a call", tools.demand.strict[0]));
    return nullptr;
  }
  return compile_grammar(fields, "tools", chat::free_tool_grammar(*model.tool_format, tools.demand));
}

}  // namespace

std::shared_ptr<const grammar::Automaton> hold(Fields& fields, const ServedModel& model, const ToolUse& tools,
                                               const std::string& name,
                                               const Result<grammar::Grammar>* own) {
  if (fields.error()) return nullptr;
  if (!tools.must && !own) return hold_freely(fields, model, tools);
  if (!tools.offered()) return compile_grammar(fields, name, *own);
  const auto calls = chat::tool_grammar(*model.tool_format, tools.demand);
  if (tools.must || !calls) return compile_grammar(fields, "tools", calls);
  if (!*own) return compile_grammar(fields, name, *own);
  grammar::Grammar either;
  either.reference("root");
  const int call = either.sequence(
      {either.bytes(chat::tool_opening(*model.tool_format)), either.embed(*calls, "call:")});
  either.define("root", either.choice({either.embed(**own, "own:"), call}));
  return compile_grammar(fields, name, either);
}

namespace {

// A text, or parts of type text.
std::optional<std::string> content_text(Fields& fields, const Json& content) {
  if (content.is_string()) return content.get<std::string>();
  if (!content.is_array()) return std::nullopt;
  std::string text;
  for (const Json& part : content) {
    if (!part.is_object() || part.value("type", Json()) != "text" ||
        !part.value("text", Json()).is_string())
      return std::nullopt;
    fields.look_within(part, "messages[].content[].", {"type", "text", "cache_control", "annotations", "logprobs"});
    text += part["text"].get<std::string>();
  }
  return text;
}

std::string fitted(std::string id, int length) {
  const auto n = static_cast<size_t>(length);
  if (n == 0 || id.size() == n) return id;
  return id.size() > n ? id.substr(id.size() - n) : std::string(n - id.size(), '0') + id;
}

// The calls of an assistant's message; `names` learns who was called under which id.
Json read_calls(Fields& fields, const std::string& where, const Json& calls, int id_length,
                std::map<std::string, std::string>& names) {
  Json read = Json::array();
  if (!calls.is_array()) fields.fail(where, "must be a list");
  for (size_t i = 0; calls.is_array() && i < calls.size(); ++i) {
    const Json function = calls[i].is_object() ? calls[i].value("function", Json()) : Json();
    if (!function.is_object() || !function.value("name", Json()).is_string()) {
      fields.fail(fmt::format("{}[{}]", where, i), "must have a function with a name");
      return read;
    }
    fields.look_within(calls[i], "messages[].tool_calls[].", {"id", "type", "function", "index"});
    fields.look_within(function, "messages[].tool_calls[].function.", {"name", "arguments"});
    const Json given = calls[i].value("id", Json());
    const std::string id = fitted(given.is_string() ? given.get<std::string>() : "", id_length);
    Json arguments = function.value("arguments", Json::object());
    // What the model wrote may have been cut off; then it stays the text that it is.
    if (arguments.is_string())
      if (Json parsed = Json::parse(arguments.get<std::string>(), nullptr, false);
          parsed.is_object())
        arguments = std::move(parsed);
    names[id] = function["name"];
    read.push_back(
        {{"id", id},
         {"type", "function"},
         {"function", {{"name", function["name"]}, {"arguments", std::move(arguments)}}}});
  }
  return read;
}

}  // namespace

constexpr const char* kRoles[] = {"system", "developer", "user", "assistant", "tool"};

Json template_messages(Fields& fields, const chat::ToolFormat& format, const Json& messages) {
  Json all = Json::array();
  std::map<std::string, std::string> names;
  for (size_t i = 0; i < messages.size() && !fields.error(); ++i) {
    const std::string where = fmt::format("messages[{}]", i);
    const Json& message = messages[i];
    if (!message.is_object() || !message.value("role", Json()).is_string()) {
      fields.fail(where, "must be an object with a role");
      break;
    }
    Json read = message;
    Fields known(message, where + ".");
    for (const char* name : {"images", "audio", "function_call"}) known.only(name);
    fields.take_error(known);
    // Some of them mean something to some templates.
    fields.look_within(message, "messages[].", {"role", "content", "name", "tool_calls", "tool_call_id", "tool_name", "images", "audio", "function_call", "refusal", "annotations",
                                                "reasoning", "reasoning_content", "thinking", "prefix"});
    const Json& role = message["role"];
    if (std::none_of(std::begin(kRoles), std::end(kRoles), [&](const char* one) { return role == one; }))
      fields.fail(where + ".role", "must be system, developer, user, assistant or tool");
    if (role == "tool" && !message.value("tool_call_id", Json()).is_string())
      fields.fail(where + ".tool_call_id", "must be the id of the call that the message answers");
    if (role == "developer") read["role"] = "system";
    const bool calls = message.contains("tool_calls") && !message["tool_calls"].is_null() &&
                       !message["tool_calls"].empty();
    if (calls) {
      read["tool_calls"] =
          read_calls(fields, where + ".tool_calls", message["tool_calls"], format.id_length, names);
    } else {
      read.erase("tool_calls");
    }
    const Json content = message.value("content", Json());
    if (content.is_null()) {
      if (!calls) fields.fail(where + ".content", "must be a string or a list of parts");
      read["content"] = "";
    } else if (const auto text = content_text(fields, content)) {
      read["content"] = *text;
    } else {
      fields.fail(where + ".content", content.is_array() ? "may hold parts of type text only"
                                                         : "must be a string or a list of parts");
    }
    if (message["role"] == "tool") {
      const Json id = message.value("tool_call_id", Json());
      if (id.is_string()) {
        const std::string known = fitted(id, format.id_length);
        read["tool_call_id"] = known;
        if (!message.contains("name") && names.contains(known)) read["name"] = names[known];
      }
    }
    all.push_back(std::move(read));
  }
  return all;
}

}  // namespace venturi::server
