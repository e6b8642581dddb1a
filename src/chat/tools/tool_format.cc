#include "chat/tools/tool_format.h"

#include <fmt/format.h>

#include "tool_format_registry.inc"

namespace venturi::chat {

namespace {

using Json = nlohmann::ordered_json;

std::string dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string instructions(const Json& tools) {
  std::string text =
      "You can call these functions. To call one, answer with nothing but "
      "{\"name\": its name, \"arguments\": an object of its arguments}.";
  for (const Json& tool : tools) text += "\n" + dump(tool.value("function", Json()));
  return text;
}

std::string calls_text(const Json& calls) {
  std::string text;
  for (const Json& call : calls) {
    const Json function = call.value("function", Json::object());
    if (!text.empty()) text += '\n';
    text += dump(Json{{"name", function.value("name", "")},
                      {"arguments", function.value("arguments", Json::object())}});
  }
  return text;
}

}  // namespace

const ToolFormat& tool_format_for(std::string_view template_source) {
  for (const ToolFormat* format : kAll_ToolFormat)
    for (const std::string& sign : format->signs)
      if (template_source.find(sign) != std::string_view::npos) return *format;
  return tool_format_json;
}

bool takes_tools(std::string_view template_source) {
  return template_source.find("tools") != std::string_view::npos;
}

Json spell_out_tools(const Json& messages, const Json& tools) {
  Json plain = Json::array();
  for (const Json& message : messages) {
    Json one = message;
    const std::string content =
        message.value("content", Json()).is_string() ? message["content"].get<std::string>() : "";
    if (message.contains("tool_calls") && message["tool_calls"].is_array()) {
      one.erase("tool_calls");
      const std::string calls = calls_text(message["tool_calls"]);
      one["content"] = content.empty() ? calls : fmt::format("{}\n{}", content, calls);
    } else if (message.value("role", Json()) == "tool") {
      const Json name = message.value("name", Json());
      one = {{"role", "user"},
             {"content", name.is_string()
                             ? fmt::format("Result of {}: {}", name.get<std::string>(), content)
                             : fmt::format("Result: {}", content)}};
    }
    plain.push_back(std::move(one));
  }
  if (!tools.is_array() || tools.empty()) return plain;
  if (!plain.empty() && plain[0].value("role", Json()) == "system") {
    plain[0]["content"] = plain[0].value("content", "") + "\n\n" + instructions(tools);
  } else {
    plain.insert(plain.begin(), Json{{"role", "system"}, {"content", instructions(tools)}});
  }
  return plain;
}

}  // namespace venturi::chat
