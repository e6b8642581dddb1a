// Llama 3.1 to 3.3: the answer is one JSON object, sometimes behind <|python_tag|>.
#include "chat/tools/tool_format.h"

namespace venturi::chat {

extern const ToolFormat tool_format_llama3;
const ToolFormat tool_format_llama3{.name = "llama3",
                                    .signs = {"<|python_tag|>", "Environment: ipython"},
                                    .begin = "<|python_tag|>",
                                    .end = {},
                                    .gap = {},
                                    .bare = true,
                                    .single = true,
                                    .arguments_key = "parameters"};

}  // namespace venturi::chat
