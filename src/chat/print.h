// Values as text: what Python's str, repr and json.dumps make of them. Marks of taint are kept.
#pragma once

#include "chat/value.h"

namespace venturi::chat {

Text to_text(Meter& meter, const Value& value);  // str
Text to_repr(Meter& meter, const Value& value);  // repr
std::string float_repr(double value);            // the shortest that reads back equal

struct JsonStyle {
  int64_t indent = -1;  // negative: on one line
  bool ascii_only = false;
  bool sort_keys = false;
  Text item_separator, key_separator;
};
// As Hugging Face's tojson: json.dumps with ensure_ascii off.
Result<Text> to_json(Meter& meter, const Value& value, const JsonStyle& style);

}  // namespace venturi::chat
