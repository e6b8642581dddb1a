// The values of JSON Schema's `format` that are held, as patterns (regex.h) none of whose texts breaks the format; they may
// leave some out.
#pragma once

#include <string_view>

namespace venturi::grammar {

// Null for a format that is not among them.
const char* format_pattern(std::string_view name);

}  // namespace venturi::grammar
