// Granite 3: <|tool_call|> and one list of all calls.
#include "chat/tools/tool_format.h"

namespace venturi::chat {

extern const ToolFormat tool_format_granite;
const ToolFormat tool_format_granite{.name = "granite",
                                     .signs = {"<|tool_call|>"},
                                     .begin = "<|tool_call|>",
                                     .end = {},
                                     .gap = {},
                                     .list = true};

}  // namespace venturi::chat
