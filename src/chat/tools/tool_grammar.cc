#include "chat/tools/tool_grammar.h"

#include <fmt/format.h>

#include "grammar/json_schema.h"

namespace venturi::chat {

namespace {

using Json = nlohmann::ordered_json;

std::string quoted(const std::string& text) { return Json(text).dump(); }

// Arguments are an object, also where a schema does not say so.
Json parameters_of(const Json& function) {
  const auto given = function.find("parameters");
  if (given == function.end() || given->is_null())
    return {{"type", "object"}, {"properties", Json::object()}};
  Json schema = *given;
  if (schema == true) schema = Json::object();
  bool says = !schema.is_object();
  for (const char* key : {"type", "$ref", "anyOf", "oneOf", "allOf", "enum", "const"})
    if (!says) says = schema.contains(key);
  if (!says) schema["type"] = "object";
  return schema;
}

}  // namespace

std::string tool_opening(const ToolFormat& format) {
  return format.bare || format.begin.empty() ? "" : format.begin + format.gap;
}

Result<grammar::Grammar> tool_grammar(const ToolFormat& format, const ToolDemand& demand) {
  grammar::Grammar g;
  g.reference("root");
  std::vector<int> choices;
  for (const Json& tool : demand.tools) {
    const Json& function = tool.at("function");
    const std::string name = function.at("name");
    auto arguments = grammar::json_schema_grammar(parameters_of(function));
    if (!arguments) return std::move(arguments).error().within("the function " + name);
    choices.push_back(g.sequence({g.bytes(fmt::format("{{{}: {}, {}: ", quoted(format.name_key),
                                                      quoted(name), quoted(format.arguments_key))),
                                  g.embed(*arguments, name + ":"), g.bytes("}")}));
  }
  g.define("call", g.choice(std::move(choices)));
  const int call = g.reference("call");
  int more = g.empty();
  const bool several = demand.several && !format.single;
  if (format.list) {
    if (several)
      more = g.repeat(g.sequence({g.bytes(", "), g.reference("call")}), 0, kMaxCalls - 1);
    g.define("root", g.sequence({g.bytes("["), call, more, g.bytes("]")}));
    return g;
  }
  if (several) {
    const std::string end = format.end.empty() ? "" : format.gap + format.end;
    const std::string between = fmt::format("\n{}", tool_opening(format));
    // An answer may stop behind a call, behind its end mark, or go on with another.
    more = g.repeat(g.sequence({g.bytes(end + between), g.reference("call")}), 0, kMaxCalls - 1);
    if (!end.empty()) more = g.sequence({more, g.optional(g.bytes(end))});
  }
  g.define("root", g.sequence({call, more}));
  return g;
}

}  // namespace venturi::chat
