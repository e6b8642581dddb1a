// The grammar of an answer that must call functions, or may: arguments satisfy their schemas.
#pragma once

#include "base/result.h"
#include "chat/tools/tool_format.h"
#include "grammar/grammar.h"

namespace venturi::chat {

inline constexpr int kMaxCalls = 32;  // in one answer that must call

struct ToolDemand {
  nlohmann::ordered_json
      tools;            // [{"function": {"name", "parameters"}}, …]: those that may be called
  bool several = true;  // more than one call may come
  std::vector<std::string> strict = {};  // of their names: those whose schemas hold where calling is free
};

// What the model's prompt ends with, so that a call comes next.
std::string tool_opening(const ToolFormat& format);
// What follows it. Errors name the function and the place in its schema.
Result<grammar::Grammar> tool_grammar(const ToolFormat& format, const ToolDemand& demand);
// A whole answer that may call: any text, in which what the parser would take for a call is one. The schemas of strict
// functions hold, the others' arguments are any object. With calls that need no mark a text may not begin with `{`.
Result<grammar::Grammar> free_tool_grammar(const ToolFormat& format, const ToolDemand& demand);

}  // namespace venturi::chat
