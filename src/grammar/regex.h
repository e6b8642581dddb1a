// Regular expressions (the part of ECMA-262 that JSON Schema's `pattern` needs) as the body of a JSON
// string.
//
// Literals, ., classes and their escapes (\d \w \s and capitals), groups (also (?:…)), |, * + ? {m,n},
// anchors ^ and $ at the ends. Without ^ or $ anything may come before or after. Look-around,
// back references and word boundaries are Code::kUnsupported. A character that JSON must escape is
// written with its escape.
#pragma once

#include "grammar/json_parts.h"

namespace venturi::grammar {

Result<int> regex_node(Grammar& grammar, std::string_view pattern);

}  // namespace venturi::grammar
