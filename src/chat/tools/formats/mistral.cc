// Mistral from v3 on: [TOOL_CALLS] and one list of all calls; ids have nine characters.
#include "chat/tools/tool_format.h"

namespace venturi::chat {

extern const ToolFormat tool_format_mistral;
const ToolFormat tool_format_mistral{.name = "mistral",
                                     .signs = {"[TOOL_CALLS]"},
                                     .begin = "[TOOL_CALLS]",
                                     .end = {},
                                     .gap = {},
                                     .list = true,
                                     .id_length = 9};

}  // namespace venturi::chat
