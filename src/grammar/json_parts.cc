#include "grammar/json_parts.h"

#include <map>

#include "tokenizers/utf8.h"

namespace venturi::grammar {

namespace {

// Integers have at most 18 digits, so that every reader can hold them.
constexpr int kMaxDigits = 18;
constexpr int kMaxIndent = 24;

const Ranges kHex = {{'0', '9'}, {'A', 'F'}, {'a', 'f'}};
// What a string may hold as it is.
const Ranges kPlain = {{0x20, 0x21}, {0x23, 0x5B}, {0x5D, 0x7E}, {0x80, kLastCodePoint}};

}  // namespace

int JsonParts::once(const char* name, int (JsonParts::*make)()) {
  // A schema may name its own rules; ours have a character that it cannot use.
  const std::string rule = std::string("json:") + name;
  const int reference = g_.reference(rule);
  if (!g_.defined(rule)) {
    g_.define(rule, g_.empty());  // while it is made, so that what refers to itself ends
    g_.define(rule, (this->*make)());
  }
  return reference;
}

int JsonParts::space() { return once("space", &JsonParts::make_space); }
int JsonParts::value() { return once("value", &JsonParts::make_value); }
int JsonParts::object() { return once("object", &JsonParts::make_object); }
int JsonParts::array() { return once("array", &JsonParts::make_array); }
int JsonParts::string() { return once("string", &JsonParts::make_string); }
int JsonParts::string_char() { return once("char", &JsonParts::make_string_char); }
int JsonParts::number() { return once("number", &JsonParts::make_number); }
int JsonParts::integer() { return once("integer", &JsonParts::make_integer); }

int JsonParts::make_space() {
  return g_.optional(g_.choice({g_.bytes(" "), g_.sequence({g_.bytes("\n"), g_.repeat(g_.any_of({{' ', ' '}, {'\t', '\t'}}), 0, kMaxIndent)})}));
}

int JsonParts::make_value() {
  return g_.choice({object(), array(), string(), number(), g_.bytes("true"), g_.bytes("false"), g_.bytes("null")});
}

int JsonParts::pair(int key, int value) { return g_.sequence({key, g_.bytes(":"), space(), value}); }

int JsonParts::make_object() {
  const int one = pair(string(), value());
  const int more = g_.repeat(g_.sequence({g_.bytes(","), space(), one}), 0, kUnbounded);
  return g_.sequence({g_.bytes("{"), space(), g_.optional(g_.sequence({one, more, space()})), g_.bytes("}")});
}

int JsonParts::make_array() {
  const int more = g_.repeat(g_.sequence({g_.bytes(","), space(), value()}), 0, kUnbounded);
  return g_.sequence({g_.bytes("["), space(), g_.optional(g_.sequence({value(), more, space()})), g_.bytes("]")});
}

int JsonParts::string_of(int body) { return g_.sequence({g_.bytes("\""), body, g_.bytes("\"")}); }
int JsonParts::make_string() { return string_of(g_.repeat(string_char(), 0, kUnbounded)); }
int JsonParts::string_between(int min_length, int max_length) {
  return string_of(g_.repeat(string_char(), min_length, max_length));
}

int JsonParts::make_string_char() {
  const int hex = g_.any_of(kHex);
  const auto hexes = [&](int n) { return g_.repeat(hex, n, n); };
  // A surrogate comes with its other half, as one code point.
  const int plain_unit = g_.choice({g_.sequence({g_.any_of({{'0', '9'}, {'A', 'C'}, {'E', 'F'}, {'a', 'c'}, {'e', 'f'}}), hexes(3)}),
                                    g_.sequence({g_.any_of({{'D', 'D'}, {'d', 'd'}}), g_.any_of({{'0', '7'}}), hexes(2)})});
  const int d = g_.any_of({{'D', 'D'}, {'d', 'd'}});
  const int two_units = g_.sequence({d, g_.any_of({{'8', '9'}, {'A', 'B'}, {'a', 'b'}}), hexes(2), g_.bytes("\\u"), d,
                                     g_.any_of({{'C', 'F'}, {'c', 'f'}}), hexes(2)});
  Ranges simple;
  for (const char c : {'"', '\\', '/', 'b', 'f', 'n', 'r', 't'}) simple.push_back({static_cast<uint32_t>(c), static_cast<uint32_t>(c)});
  const int escape = g_.choice({g_.any_of(simple), g_.sequence({g_.bytes("u"), g_.choice({plain_unit, two_units})})});
  return g_.choice({g_.any_of(kPlain), g_.sequence({g_.bytes("\\"), escape})});
}

int JsonParts::make_integer() {
  const int digit = g_.any_of({{'0', '9'}});
  return g_.choice({g_.bytes("0"), g_.sequence({g_.optional(g_.bytes("-")), g_.any_of({{'1', '9'}}), g_.repeat(digit, 0, kMaxDigits - 1)})});
}

int JsonParts::make_number() {
  const int digit = g_.any_of({{'0', '9'}});
  const int whole = g_.choice({g_.bytes("0"), g_.sequence({g_.any_of({{'1', '9'}}), g_.repeat(digit, 0, kMaxDigits - 1)})});
  const int fraction = g_.sequence({g_.bytes("."), g_.repeat(digit, 1, kMaxDigits)});
  // Two digits: no reader overflows.
  const int exponent = g_.sequence({g_.any_of({{'E', 'E'}, {'e', 'e'}}), g_.optional(g_.any_of({{'+', '+'}, {'-', '-'}})), g_.repeat(digit, 1, 2)});
  return g_.sequence({g_.optional(g_.bytes("-")), whole, g_.optional(fraction), g_.optional(exponent)});
}

int JsonParts::chars(const Ranges& ranges) {
  std::vector<int> choices;
  const Ranges plain = intersection(ranges, kPlain);
  if (!plain.empty()) choices.push_back(g_.any_of(plain));
  static constexpr struct {
    uint32_t code_point;
    const char* text;
  } kEscapes[] = {{'"', "\\\""}, {'\\', "\\\\"}, {'\b', "\\b"}, {'\f', "\\f"}, {'\n', "\\n"}, {'\r', "\\r"}, {'\t', "\\t"}, {0x7F, "\\u007f"}};
  for (const auto& escape : kEscapes)
    if (!intersection(ranges, {{escape.code_point, escape.code_point}}).empty()) choices.push_back(g_.bytes(escape.text));
  return choices.empty() ? -1 : g_.choice(std::move(choices));
}

int JsonParts::except_from(const std::vector<std::u32string>& keys, size_t depth) {
  // After a common beginning of `depth` code points: end here unless a key does; or go on with what
  // no key goes on with, and then anything; or follow the keys.
  std::map<char32_t, std::vector<std::u32string>> next;
  bool is_key = false;
  for (const std::u32string& key : keys) {
    if (key.size() == depth) is_key = true;
    else next[key[depth]].push_back(key);
  }
  Ranges taken;
  for (const auto& [c, rest] : next) taken.push_back({c, c});
  std::vector<int> choices;
  choices.push_back(g_.sequence({g_.any_of(intersection(kPlain, complement(taken))), g_.repeat(g_.any_of(kPlain), 0, kUnbounded)}));
  for (const auto& [c, rest] : next) {
    // A key's character that needs an escape is simply never begun.
    if (intersection(kPlain, {{c, c}}).empty()) continue;
    choices.push_back(g_.sequence({g_.any_of({{c, c}}), except_from(rest, depth + 1)}));
  }
  const int more = g_.choice(std::move(choices));
  return is_key ? more : g_.optional(more);
}

int JsonParts::string_except(const std::vector<std::string>& keys) {
  std::vector<std::u32string> wide;
  for (const std::string& key : keys) {
    std::u32string w;
    for (size_t i = 0; i < key.size();) {
      const CodePoint c = decode_utf8(key, i);
      w.push_back(static_cast<char32_t>(c.length ? c.value : kReplacement));
      i += c.length ? c.length : 1;
    }
    wide.push_back(std::move(w));
  }
  return string_of(except_from(wide, 0));
}

}  // namespace venturi::grammar
