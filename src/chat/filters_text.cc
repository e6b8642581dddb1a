// Filters that make strings and numbers.
#include <charconv>
#include <cmath>

#include "chat/builtins.h"
#include "chat/print.h"
#include "chat/text_ops.h"

namespace venturi::chat {
namespace {

// Filters take any value and work on its str.
using TextFunction = Text (*)(const Text&);
template <TextFunction function>
Result<Value> on_text(Meter& meter, const Value& value, const Args& args) {
  TRY(BoundArgs::bind(args, "this filter", {}));
  return make_text(meter, function(to_text(meter, value)));
}

Result<Value> filter_trim(Meter& meter, const Value& value, const Args& args) {
  const auto a = TRY(BoundArgs::bind(args, "trim", {"chars"}));
  const Text chars = TRY(a.given(0) ? a.text(0, "") : Result<Text>(Text()));
  return make_text(meter, strip(to_text(meter, value), a.given(0) ? &chars : nullptr, true, true));
}

Result<Value> filter_replace(Meter& meter, const Value& value, const Args& args) {
  const auto a = TRY(BoundArgs::bind(args, "replace", {"old", "new", "count"}));
  if (!a[0] || !a[1]) return error(Code::kInvalidArgument, "replace needs 'old' and 'new'");
  const int64_t count = TRY(a.integer(2, -1));
  return make_text(
      meter, replace(to_text(meter, value), to_text(meter, *a[0]), to_text(meter, *a[1]), count));
}

Result<Value> filter_indent(Meter& meter, const Value& value, const Args& args) {
  const auto a = TRY(BoundArgs::bind(args, "indent", {"width", "first", "blank"}));
  const Text indent =
      a[0] && a[0]->text() ? *a[0]->text() : repeat(Text::trusted(" "), TRY(a.integer(0, 4)));
  const bool blank = a.flag(2, false);
  const bool first = a.flag(1, false);
  Text text = to_text(meter, value);
  text.append("\n", false);  // so that an empty last line is a line
  Text out;
  bool at_first = true;
  for (const Text& line : split_lines(text, false)) {
    if (!at_first) out.append("\n", false);
    if (at_first ? first : (blank || !line.empty())) out.append(indent);
    out.append(line);
    at_first = false;
  }
  return make_text(meter, std::move(out));
}

Result<Value> filter_center(Meter& meter, const Value& value, const Args& args) {
  const auto a = TRY(BoundArgs::bind(args, "center", {"width"}));
  const int64_t width = TRY(a.integer(0, 80));
  return make_text(meter, pad(to_text(meter, value), width, Text::trusted(" "), true, true));
}

Result<Value> filter_escape(Meter& meter, const Value& value, const Args&) {
  return make_text(meter, map_chars(to_text(meter, value), [](std::string& out, uint32_t c) {
                     switch (c) {
                       case '&':
                         out += "&amp;";
                         break;
                       case '<':
                         out += "&lt;";
                         break;
                       case '>':
                         out += "&gt;";
                         break;
                       case '\'':
                         out += "&#39;";
                         break;
                       case '"':
                         out += "&#34;";
                         break;
                       default:
                         append_utf8(out, c);
                     }
                   }));
}

Result<Value> filter_urlencode(Meter& meter, const Value& value, const Args&) {
  const Text text = to_text(meter, value);
  Text out;
  TaintCursor taint(text);
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text.bytes()[i];
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '_' || c == '.' || c == '-' || c == '~' || c == '/';
    out.append(plain ? std::string(1, c) : fmt::format("%{:02X}", static_cast<uint8_t>(c)),
               taint.at(i));
  }
  return make_text(meter, std::move(out));
}

Result<Value> filter_truncate(Meter& meter, const Value& value, const Args& args) {
  const auto a = TRY(BoundArgs::bind(args, "truncate", {"length", "killwords", "end", "leeway"}));
  const int64_t length = TRY(a.integer(0, 255));
  const Text end = TRY(a.text(2, "..."));
  const int64_t leeway = TRY(a.integer(3, 5));
  const Text text = to_text(meter, value);
  const auto end_size = static_cast<int64_t>(count_chars(end.bytes()));
  if (length < end_size || leeway < 0)
    return error(Code::kInvalidArgument, "truncate: 'length' must not be less than that of 'end'");
  if (static_cast<int64_t>(count_chars(text.bytes())) - leeway <= length)
    return make_text(meter, text);
  Text out = slice_chars(text, {}, length - end_size, 1);
  if (!a.flag(1, false)) {
    const size_t space = rfind_bytes(out.bytes(), " ");
    if (space != std::string::npos) out = out.slice(0, space);
  }
  out.append(end);
  return make_text(meter, std::move(out));
}

Result<Value> filter_wordcount(Meter& meter, const Value& value, const Args&) {
  const Text text = to_text(meter, value);
  int64_t words = 0;
  bool inside = false;
  for (size_t i = 0; i < text.size();) {
    const Char c = char_at(text.bytes(), i);
    const bool word = is_alpha(c.code) || is_digit(c.code) || c.code == '_';
    words += word && !inside;
    inside = word;
    i += c.length;
  }
  return Value::integer(words);
}

Result<Value> filter_format(Meter& meter, const Value& value, const Args& args) {
  return format_percent(meter, to_text(meter, value), args);
}

Result<Value> filter_tojson(Meter& meter, const Value& value, const Args& args) {
  const auto a =
      TRY(BoundArgs::bind(args, "tojson", {"ensure_ascii", "indent", "separators", "sort_keys"}));
  JsonStyle style;
  style.indent = TRY(a.integer(1, -1));
  if (style.indent > 64) return error(Code::kInvalidArgument, "tojson: 'indent' is at most 64");
  style.ascii_only = a.flag(0, false);
  style.sort_keys = a.flag(3, false);
  style.item_separator = Text::trusted(style.indent >= 0 ? "," : ", ");
  style.key_separator = Text::trusted(": ");
  if (a.given(2)) {
    const List* pair = a[2]->list();
    if (!pair || pair->items.size() != 2 || !pair->items[0].text() || !pair->items[1].text())
      return error(Code::kInvalidArgument, "tojson: 'separators' is a pair of strings");
    style.item_separator = *pair->items[0].text();
    style.key_separator = *pair->items[1].text();
  }
  return make_text(meter, TRY(to_json(meter, value, style)));
}

// Digits of `s` in Python's int() syntax: blanks around, a sign, underscores between digits.
std::optional<int64_t> parse_integer(const Text& text, int64_t base) {
  const Text trimmed = strip(text, nullptr, true, true);
  std::string_view s = trimmed.bytes();
  const bool negative = !s.empty() && s[0] == '-';
  if (!s.empty() && (s[0] == '-' || s[0] == '+')) s.remove_prefix(1);
  if (s.size() > 2 && s[0] == '0') {
    const char mark = static_cast<char>(s[1] | 32);
    if ((mark == 'x' && base == 16) || (mark == 'o' && base == 8) || (mark == 'b' && base == 2))
      s.remove_prefix(2);
  }
  std::string digits = negative ? "-" : "";
  for (size_t i = 0; i < s.size(); ++i) {
    if (s[i] == '_' && i > 0 && i + 1 < s.size() && s[i - 1] != '_') continue;
    digits += s[i];
  }
  if (s.empty() || s[0] == '-') return std::nullopt;
  int64_t out = 0;
  const auto [end, status] =
      std::from_chars(digits.data(), digits.data() + digits.size(), out, static_cast<int>(base));
  if (status != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  return out;
}

std::optional<double> parse_real(const Text& text) {
  const Text trimmed = strip(text, nullptr, true, true);
  std::string_view s = trimmed.bytes();
  if (!s.empty() && s[0] == '+') s.remove_prefix(1);
  double out = 0;
  const auto [end, status] = std::from_chars(s.data(), s.data() + s.size(), out);
  if (status != std::errc() || end != s.data() + s.size()) return std::nullopt;
  return out;
}

std::optional<int64_t> truncated(double d) {
  if (!(std::abs(d) < 0x1p63)) return std::nullopt;
  return static_cast<int64_t>(d);
}

Error undefined_number(const Value& value) {
  return error(Code::kInvalidArgument, "{} is undefined, so it is no number",
               *value.as<Undefined>()->what);
}

Result<Value> filter_int(Meter&, const Value& value, const Args& args) {
  const auto a = TRY(BoundArgs::bind(args, "int", {"default", "base"}));
  const int64_t base = TRY(a.integer(1, 10));
  if (base < 2 || base > 36) return error(Code::kInvalidArgument, "int: 'base' is 2 to 36");
  if (value.is_undefined()) return undefined_number(value);
  std::optional<int64_t> out;
  if (value.is_integral()) out = value.integer_or(0);
  if (const double* d = value.as<double>()) out = truncated(*d);
  if (const Text* t = value.text()) {
    out = parse_integer(*t, base);
    if (const auto real = parse_real(*t); !out && real) out = truncated(*real);
  }
  if (out) return Value::integer(*out);
  return a[0] ? *a[0] : Value::integer(0);
}

Result<Value> filter_float(Meter&, const Value& value, const Args& args) {
  const auto a = TRY(BoundArgs::bind(args, "float", {"default"}));
  if (value.is_undefined()) return undefined_number(value);
  if (value.is_number()) return Value::real(value.number());
  if (const Text* t = value.text())
    if (const auto real = parse_real(*t)) return Value::real(*real);
  return a[0] ? *a[0] : Value::real(0);
}

Result<Value> filter_abs(Meter&, const Value& value, const Args&) {
  if (const double* d = value.as<double>()) return Value::real(std::abs(*d));
  if (!value.is_integral() || value.integer_or(0) == INT64_MIN)
    return error(Code::kInvalidArgument, "abs needs a number, not a {}", value.type_name());
  return Value::integer(std::abs(value.integer_or(0)));
}

Result<Value> filter_round(Meter&, const Value& value, const Args& args) {
  const auto a = TRY(BoundArgs::bind(args, "round", {"precision", "method"}));
  const int64_t precision = TRY(a.integer(0, 0));
  const Text method = TRY(a.text(1, "common"));
  if (!value.is_number())
    return error(Code::kInvalidArgument, "round needs a number, not a {}", value.type_name());
  if (precision < -300 || precision > 300)
    return error(Code::kInvalidArgument, "round: 'precision' is -300 to 300");
  const double x = value.number();
  const bool stays_integer = value.is_integral();
  if (method.bytes() == "common") {
    if (precision < 0) {
      const double scale = std::pow(10.0, static_cast<double>(-precision));
      const double rounded = std::nearbyint(x / scale) * scale;
      return stays_integer ? Value::integer(static_cast<int64_t>(rounded)) : Value::real(rounded);
    }
    if (stays_integer) return value.is_bool() ? Value::integer(value.integer_or(0)) : value;
    if (!std::isfinite(x)) return value;
    return Value::real(std::stod(fmt::format("{:.{}f}", x, precision)));
  }
  if (method.bytes() != "ceil" && method.bytes() != "floor")
    return error(Code::kInvalidArgument, "round: 'method' is common, ceil or floor");
  const double scale = std::pow(10.0, static_cast<double>(precision));
  const double scaled = x * scale;
  return Value::real((method.bytes() == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale);
}

Result<Value> filter_default(Meter& meter, const Value& value, const Args& args) {
  const auto a = TRY(BoundArgs::bind(args, "default", {"default_value", "boolean"}));
  if (!value.is_undefined() && (!a.flag(1, false) || truth(value))) return value;
  return a[0] ? *a[0] : make_text(meter, "");
}

Result<Value> filter_safe(Meter& meter, const Value& value, const Args&) {
  return make_text(meter, to_text(meter, value));
}

}  // namespace

std::initializer_list<FilterEntry> text_filters() {
  static const std::initializer_list<FilterEntry> table = {
      {"abs", filter_abs},
      {"capitalize", on_text<capitalize>},
      {"center", filter_center},
      {"d", filter_default},
      {"default", filter_default},
      {"e", filter_escape},
      {"escape", filter_escape},
      {"float", filter_float},
      {"forceescape", filter_escape},
      {"format", filter_format},
      {"indent", filter_indent},
      {"int", filter_int},
      {"lower", on_text<lower>},
      {"replace", filter_replace},
      {"round", filter_round},
      {"safe", filter_safe},
      {"string", filter_safe},
      {"title", on_text<title_words>},
      {"tojson", filter_tojson},
      {"trim", filter_trim},
      {"truncate", filter_truncate},
      {"upper", on_text<upper>},
      {"urlencode", filter_urlencode},
      {"wordcount", filter_wordcount},
  };
  return table;
}

}  // namespace venturi::chat
