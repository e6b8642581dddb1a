#include "chat/tools/tool_grammar.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

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

namespace {

constexpr std::string_view kBlanks = " \t\n\r\v\f";

// A text with the calls that may come in it, as rules "text:k": what may follow where the last k bytes begin the mark.
class FreeText {
 public:
  FreeText(grammar::Grammar& g, const ToolFormat& format) : g_(g), format_(format), mark_(format.begin) {
    for (size_t k = 0; k < std::max<size_t>(mark_.size(), 1); ++k) {
      std::vector<int> next = steps(k, "");
      next.push_back(g_.empty());
      g_.define(name(k), g_.choice(std::move(next)));
    }
  }

  int any() { return g_.reference(name(0)); }

  // One that is no call from its first character on, as the parser looks for it: behind blanks, or in a list.
  int no_bare_call() {
    g_.define("between", g_.choice(blanks_then("between", std::string(kBlanks) + ",;[]", "{")));
    std::vector<int> lead = blanks_then("lead", kBlanks, "{[");
    lead.push_back(g_.sequence({g_.bytes("["), g_.reference("between")}));
    g_.define("lead", g_.choice(std::move(lead)));
    return g_.reference("lead");
  }

 private:
  static std::string name(size_t k) { return fmt::format("text:{}", k); }

  // How much of the mark has come when `c` follows its first k bytes.
  size_t after(size_t k, char c) const {
    const std::string come = mark_.substr(0, k) + c;
    size_t n = std::min(come.size(), mark_.size());
    while (!come.ends_with(std::string_view(mark_).substr(0, n))) --n;
    return n;
  }

  // A character, none of `but`, and what follows it.
  std::vector<int> steps(size_t k, std::string_view but) {
    std::vector<int> next;
    grammar::Ranges other;
    for (const char c : but) other.push_back({static_cast<uint32_t>(c), static_cast<uint32_t>(c)});
    for (const char c : std::set<char>(mark_.begin(), mark_.end())) {
      const size_t n = after(k, c);
      if (n == 0 || but.find(c) != std::string_view::npos) continue;
      other.push_back({static_cast<uint32_t>(c), static_cast<uint32_t>(c)});
      next.push_back(n < mark_.size() ? g_.sequence({g_.bytes({&c, 1}), g_.reference(name(n))})
                                      : g_.sequence({g_.bytes(c + format_.gap), g_.reference("calls")}));
    }
    next.push_back(g_.sequence({g_.any_of(grammar::complement(grammar::sorted_union(std::move(other)))), g_.reference(name(0))}));
    return next;
  }

  // Nothing, one of `blanks` and `rule` again, or any other character but `no`.
  std::vector<int> blanks_then(const std::string& rule, std::string_view blanks, std::string_view no) {
    std::vector<int> next = steps(0, std::string(blanks) + std::string(no));
    grammar::Ranges ranges;
    for (const char c : blanks) ranges.push_back({static_cast<uint32_t>(c), static_cast<uint32_t>(c)});
    next.push_back(g_.sequence({g_.any_of(grammar::sorted_union(std::move(ranges))), g_.reference(rule)}));
    next.push_back(g_.empty());
    return next;
  }

  grammar::Grammar& g_;
  const ToolFormat& format_;
  const std::string& mark_;  // of ASCII characters
};

}  // namespace

Result<grammar::Grammar> free_tool_grammar(const ToolFormat& format, const ToolDemand& demand) {
  ToolDemand held = demand;
  for (Json& tool : held.tools) {
    Json& function = tool["function"];
    const bool strict = std::find(demand.strict.begin(), demand.strict.end(), function.at("name").get<std::string>()) != demand.strict.end();
    if (!strict) function["parameters"] = {{"type", "object"}};
  }
  const grammar::Grammar calls = TRY(tool_grammar(format, held));
  grammar::Grammar g;
  g.reference("root");
  g.define("calls", g.embed(calls, "call:"));
  FreeText text(g, format);
  g.define("root", format.bare ? g.choice({g.reference("calls"), text.no_bare_call()}) : text.any());
  return g;
}

}  // namespace venturi::chat
