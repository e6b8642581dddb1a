// Hermes, Qwen 2.5 and 3, and many after them: each call between <tool_call> and </tool_call>.
#include "chat/tools/tool_format.h"

namespace venturi::chat {

extern const ToolFormat tool_format_hermes;
const ToolFormat tool_format_hermes{.name = "hermes",
                                    .signs = {"<tool_call>"},
                                    .begin = "<tool_call>",
                                    .end = "</tool_call>",
                                    .gap = "\n"};

}  // namespace venturi::chat
