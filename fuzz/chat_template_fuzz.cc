// Any bytes as a chat template over a fixed conversation: it parses or says why not, and renders
// within its limits, with every byte of the conversation's own mark still marked.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "chat/render.h"

namespace {

using venturi::chat::Conversation;
using Json = nlohmann::ordered_json;

const Conversation& conversation() {
  static const Conversation c = [] {
    const Json arguments = {{"x", 1.5}, {"y", {1, "\x7f", nullptr}}};
    Conversation made;
    made.messages = {
        {{"role", "system"}, {"content", "\x7f"}},
        {{"role", "user"}, {"content", "\x7f \x7f\n\x7f\xc3\xa9"}},
        {{"role", "assistant"},
         {"content", nullptr},
         {"tool_calls",
          {{{"id", "\x7f"}, {"function", {{"name", "\x7f"}, {"arguments", arguments}}}}}}},
        {{"role", "tool"}, {"content", "\x7f"}},
    };
    made.tools = Json::array(
        {{{"type", "function"}, {"function", {{"name", "\x7f"}, {"parameters", arguments}}}}});
    made.bos_token = "<s>";
    made.eos_token = "</s>";
    made.now = std::tm{};
    return made;
  }();
  return c;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view source(reinterpret_cast<const char*>(data), size);
  const auto parsed = venturi::chat::Template::parse(source);
  if (!parsed) return 0;
  const venturi::chat::RenderLimits limits{
      .steps = 100'000, .live_bytes = 64 << 20, .output_bytes = 1 << 20};
  const auto segments = venturi::chat::render_chat(*parsed, conversation(), limits);
  if (!segments) return 0;
  // The template can write the mark itself only by spelling it or an escape (or a number) that is
  // it.
  if (source.find_first_of("\x7f\\%") != std::string_view::npos) return 0;
  for (const auto& segment : *segments)
    if (segment.is_template_text && segment.text.find('\x7f') != std::string::npos) std::abort();
  return 0;
}
