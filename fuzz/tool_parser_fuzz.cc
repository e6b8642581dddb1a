// Any bytes as an answer in each format of calls, cut in two by the first byte: what comes out does not depend
// on the cut, and a text without a call comes out as it was.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "chat/tools/tool_parser.h"
#include "tool_format_registry.inc"

using namespace venturi::chat;

namespace {

std::string told(const ToolFormat& format, std::string_view a, std::string_view b, bool& called) {
  ToolParser parser(format, {"f", "g"}, false);
  ToolEvents events;
  parser.push(a, events);
  parser.push(b, events);
  parser.finish(events);
  std::string out;
  int open = 0;
  for (const ToolEvent& e : events) {
    open += (e.kind == ToolEvent::Kind::kCall) - (e.kind == ToolEvent::Kind::kCallEnd);
    if (open < 0 || open > 1) std::abort();
    called |= e.kind == ToolEvent::Kind::kCall;
    out += static_cast<char>('0' + static_cast<int>(e.kind)) + e.text;
  }
  if (open != 0) std::abort();
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  for (const ToolFormat* format : kAll_ToolFormat) {
    bool called = false;
    const std::string whole = told(*format, text, "", called);
    const size_t cut = text.empty() ? 0 : data[0] % text.size();
    if (told(*format, text.substr(0, cut), text.substr(cut), called) != whole) std::abort();
    if (!called && whole != (text.empty() ? "" : "0" + std::string(text))) std::abort();
  }
  return 0;
}
