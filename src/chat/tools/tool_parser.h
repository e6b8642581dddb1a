// Calls of functions found in an answer while it is being written.
//
// What comes out is the same however the text is cut. Text that may turn into a call waits; a call
// that turns out to be none comes out as the text it was. Arguments are passed on as they come, as
// the model wrote them. White space before and after calls is dropped. One thread.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "chat/tools/tool_format.h"

namespace venturi::chat {

struct ToolEvent {
  enum class Kind { kText, kCall, kArguments, kCallEnd } kind;
  std::string text = {};  // kCall: the function's name
  bool whole = true;      // kCallEnd: all of the arguments came
  bool operator==(const ToolEvent&) const = default;
};
using ToolEvents = std::vector<ToolEvent>;  // neighbours of kind kText or kArguments are one

// Reads one object with a name and arguments, a byte at a time.
class CallReader {
 public:
  enum class State { kReading, kDone, kFailed };
  // `names`: of the functions there are; empty: any will do.
  explicit CallReader(const std::vector<std::string>* names) : names_(names) {}

  State push(char c, ToolEvents& events);
  // The text ends within an announced one.
  void cut(ToolEvents& events) const;
  bool announced() const { return announced_; }
  const std::string& raw() const { return raw_; }

 private:
  enum class At { kBegin, kKey, kColon, kValue, kComma };
  State value(char c, ToolEvents& events);
  State scalar_or_end(char c, ToolEvents& events);
  State value_ended(ToolEvents& events);
  State object_ended(ToolEvents& events);
  bool is_name() const { return key_ == "name" || key_ == "function" || key_ == "tool_name"; }
  bool is_arguments() const {
    return key_ == "arguments" || key_ == "parameters" || key_ == "input";
  }

  const std::vector<std::string>* names_;
  At at_ = At::kBegin;
  std::string raw_;    // all so far
  std::string token_;  // the key or value that is being read
  std::string key_, name_;
  std::string arguments_;  // those that came before the name
  int depth_ = 0;          // within a value
  bool quoted_ = false, escaped_ = false;
  bool streams_ = false;  // the value is passed on as it comes
  bool announced_ = false, has_name_ = false, has_arguments_ = false, first_ = true;
};

class ToolParser {
 public:
  // `inside`: the answer began with the format's mark already, given to the model in its prompt.
  // A bare object is a call only if it names one of `names`. The format outlives the parser.
  ToolParser(const ToolFormat& format, std::vector<std::string> names, bool inside);
  // reader_ points at names_.
  ToolParser(const ToolParser&) = delete;
  ToolParser& operator=(const ToolParser&) = delete;

  void push(std::string_view text, ToolEvents& events);
  // `calls_only`: the answer can be nothing else, so what is left that is no call yet was to become one, and is dropped.
  void finish(ToolEvents& events, bool calls_only = false);

 private:
  enum class State { kStart, kText, kInside, kCall };
  void step(char c, ToolEvents& events);
  void text(char c, ToolEvents& events);
  void inside(char c, ToolEvents& events);
  void call(char c, ToolEvents& events);
  void give_up(ToolEvents& events);
  void emit_text(std::string_view text, ToolEvents& events);

  const ToolFormat& format_;
  const std::vector<std::string> names_;
  State state_;
  std::string held_;   // since a mark began, while it is not known whether a call follows
  std::string mark_;   // what has come of a mark
  std::string blank_;  // white space that is text only if text follows
  CallReader reader_;
  bool bare_ = false;  // the call that is being read has no mark
  bool any_ = false;   // a call has come
};

}  // namespace venturi::chat
