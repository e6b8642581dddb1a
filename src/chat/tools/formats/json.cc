// Every other template: an answer that is a call is one, as spell_out_tools() asks for.
#include "chat/tools/tool_format.h"

namespace venturi::chat {

extern const ToolFormat tool_format_json;
const ToolFormat tool_format_json{
    .name = "json", .signs = {}, .begin = {}, .end = {}, .gap = {}, .bare = true};

}  // namespace venturi::chat
