// Functions that a request offers to the model, and whether they must be called.
#pragma once

#include "chat/tools/tool_grammar.h"
#include "grammar/automaton.h"
#include "server/fields.h"

namespace venturi::server {

struct ServedModel;

struct ToolChoice {
  enum class Mode { kNone, kAuto, kRequired, kNamed } mode = Mode::kAuto;
  std::string name = {};  // kNamed
  bool several = true;    // an answer may hold more than one call
};

struct ToolUse {
  Json tools;                      // as templates take them; null: the model is told of none
  std::vector<std::string> names;  // of all
  chat::ToolDemand demand;         // those that may be called
  bool must = false;               // the answer is a call
  bool offered() const { return !tools.is_null(); }
};

// `functions`: objects with name, description and parameters, the API's own spelling taken off;
// errors are of the field tools.
ToolUse use_tools(Fields& fields, const std::vector<Json>& functions, const ToolChoice& choice);
// OpenAI's tools, tool_choice and parallel_tool_calls.
ToolUse read_tools(Fields& fields);
// A list of {"type": "function", "function": {…}}.
std::vector<Json> read_functions(Fields& fields);

// What an answer is held to: a grammar of the request's own (`name` is its field), calls, or, where
// they are offered beside such a grammar, either; free text whose calls of strict functions satisfy their schemas.
std::shared_ptr<const grammar::Automaton> hold(Fields& fields, const ServedModel& model, const ToolUse& tools,
                                               const std::string& name,
                                               const Result<grammar::Grammar>* own);

// Messages of OpenAI's form as templates take them: arguments are objects, results have names, ids
// the length that the format wants. `fields` takes what is wrong.
Json template_messages(Fields& fields, const chat::ToolFormat& format, const Json& messages);

}  // namespace venturi::server
