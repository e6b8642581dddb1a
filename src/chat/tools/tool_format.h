// How a family of models writes calls of functions: the marks around them and the keys inside.
//
// A format is one file in formats/, `x.cc`, that defines `const ToolFormat tool_format_x`; the
// build writes the registry. All formats share one shape, so one parser (tool_parser.h) and one
// grammar (tool_grammar.h) serve them: JSON objects with the function's name and its arguments,
// between marks, in one list, or alone at the beginning of the answer.
#pragma once

#include <nlohmann/json.hpp>

#include <string>
#include <string_view>
#include <vector>

namespace venturi::chat {

struct ToolFormat {
  std::string name;
  std::vector<std::string> signs;  // a template whose source has one of them speaks this format
  std::string begin,
      end;            // marks as the model writes them: around each call, or around the list of all
  std::string gap;    // white space between a mark and what it marks
  bool list = false;  // calls stand in one JSON list
  bool bare = false;  // an answer may also be a call from its first character on, without marks
  bool single = false;  // the template takes one call a message
  std::string name_key = "name", arguments_key = "arguments";
  int id_length = 0;  // templates refuse ids of another; 0: any
};

// The format that a template speaks: the first whose sign it has, else `json`.
const ToolFormat& tool_format_for(std::string_view template_source);
// Whether the template shows tools to the model at all.
bool takes_tools(std::string_view template_source);

// For templates that do not: tools, calls and their results put into plain messages.
nlohmann::ordered_json spell_out_tools(const nlohmann::ordered_json& messages,
                                       const nlohmann::ordered_json& tools);

}  // namespace venturi::chat
