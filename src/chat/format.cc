// '%…' % values and '{…}'.format(values): the parts of Python's two little languages that a prompt
// needs (s r d i x o c e f g with flags, width and precision; {}, {0}, {name}, {:spec}).
#include <algorithm>

#include "chat/builtins.h"
#include "chat/print.h"
#include "chat/text_ops.h"

namespace venturi::chat {
namespace {

struct Spec {
  bool left = false, center = false, zero = false, plus = false, blank = false, alternate = false,
       comma = false;
  bool numbers_right = false;  // .format aligns numbers right and the rest left
  Text fill = Text::trusted(" ");
  int64_t width = 0;
  int64_t precision = -1;
  char type = 0;
};

constexpr int64_t kMaxWidth = 10'000;

// Decimal digits of s from i on; an error past kMaxWidth.
Result<int64_t> read_number(std::string_view s, size_t& i) {
  int64_t n = 0;
  for (; i < s.size() && s[i] >= '0' && s[i] <= '9'; ++i) {
    n = n * 10 + (s[i] - '0');
    if (n > kMaxWidth)
      return error(Code::kInvalidArgument, "a width or precision passes {}", kMaxWidth);
  }
  return n;
}

std::string with_commas(std::string digits) {
  const size_t end = std::min(digits.find_first_not_of("0123456789"), digits.size());
  for (size_t i = end; i > 3; i -= 3) digits.insert(i - 3, ",");
  return digits;
}

std::string magnitude(const Value& value, const Spec& spec, bool& negative) {
  const int precision = spec.precision < 0 ? 6 : static_cast<int>(spec.precision);
  if (value.is_integral() &&
      std::string_view("eEfFgG%").find(spec.type) == std::string_view::npos) {
    const int64_t n = value.integer_or(0);
    negative = n < 0;
    const uint64_t m = negative ? uint64_t{0} - static_cast<uint64_t>(n) : static_cast<uint64_t>(n);
    switch (spec.type) {
      case 'x':
        return fmt::format("{}{:x}", spec.alternate ? "0x" : "", m);
      case 'X':
        return fmt::format("{}{:X}", spec.alternate ? "0X" : "", m);
      case 'o':
        return fmt::format("{}{:o}", spec.alternate ? "0o" : "", m);
      case 'b':
        return fmt::format("{}{:b}", spec.alternate ? "0b" : "", m);
      default:
        return spec.comma ? with_commas(fmt::format("{}", m)) : fmt::format("{}", m);
    }
  }
  double x = value.number();
  negative = x < 0;
  x = negative ? -x : x;
  std::string out;
  switch (spec.type) {
    case 'e':
      out = fmt::format("{:.{}e}", x, precision);
      break;
    case 'E':
      out = fmt::format("{:.{}E}", x, precision);
      break;
    case 'g':
      out = fmt::format("{:.{}g}", x, precision);
      break;
    case 'G':
      out = fmt::format("{:.{}G}", x, precision);
      break;
    case '%':
      out = fmt::format("{:.{}f}%", x * 100, precision);
      break;
    case 'f':
    case 'F':
      out = fmt::format("{:.{}f}", x, precision);
      break;
    default:
      out = spec.precision < 0 ? float_repr(x) : fmt::format("{:.{}g}", x, precision);
  }
  return spec.comma ? with_commas(std::move(out)) : out;
}

Text number_text(const Value& value, const Spec& spec) {
  bool negative = false;
  std::string digits = magnitude(value, spec, negative);
  const std::string sign = negative ? "-" : (spec.plus ? "+" : (spec.blank ? " " : ""));
  if (spec.zero && !spec.left) {
    const auto missing = spec.width - static_cast<int64_t>(digits.size() + sign.size());
    if (missing > 0) digits.insert(0, static_cast<size_t>(missing), '0');
  }
  return Text::trusted(sign + digits);
}

Text padded(const Text& text, const Spec& spec, bool right) {
  return pad(text, spec.width, spec.fill, right || spec.center, !right || spec.center);
}

// One %-conversion of one value.
Result<Text> convert(Meter& meter, const Value& value, const Spec& spec) {
  Text out;
  switch (spec.type) {
    case 's':
    case 'r':
    case 'a': {
      out = spec.type == 's' ? to_text(meter, value) : to_repr(meter, value);
      if (spec.precision >= 0) out = slice_chars(out, 0, spec.precision, 1);
      break;
    }
    case 'c': {
      if (const Text* t = value.text(); t && count_chars(t->bytes()) == 1) {
        out = *t;
      } else if (value.is_integral() && value.integer_or(0) >= 0 && value.integer_or(0) < 0xd800) {
        std::string bytes;
        append_utf8(bytes, static_cast<uint32_t>(value.integer_or(0)));
        out = Text::tainted(bytes);  // a number from outside must not spell a control token
      } else {
        return error(Code::kInvalidArgument, "%c needs one character");
      }
      break;
    }
    case 'd':
    case 'i':
    case 'u': {
      if (!value.is_number())
        return error(Code::kInvalidArgument, "%d needs a number, not a {}", value.type_name());
      Value whole = value;
      if (const double* d = value.as<double>()) {
        if (!(*d > -0x1p63 && *d < 0x1p63))
          return error(Code::kInvalidArgument, "%d: the number passes 64 bits");
        whole = Value::integer(static_cast<int64_t>(*d));
      }
      out = number_text(whole, spec);
      break;
    }
    default:
      if (std::string_view("xXoeEfFgG").find(spec.type) == std::string_view::npos)
        return error(Code::kInvalidArgument, "there is no conversion %{}", spec.type);
      if (!value.is_number() || (!value.is_integral() &&
                                 std::string_view("xXo").find(spec.type) != std::string_view::npos))
        return error(Code::kInvalidArgument, "%{} needs a number, not a {}", spec.type,
                     value.type_name());
      out = number_text(value, spec);
  }
  return padded(out, spec, !spec.left);
}

// [[fill]align][sign][#][0][width][,][.precision][type]
Result<Spec> parse_spec(const Text& text) {
  const std::string_view s = text.bytes();
  Spec spec;
  size_t i = 0;
  char align = 0;
  const auto is_align = [&](size_t at) {
    return at < s.size() && (s[at] == '<' || s[at] == '>' || s[at] == '^' || s[at] == '=');
  };
  const size_t first = s.empty() ? 0 : char_at(s, 0).length;
  if (first > 0 && is_align(first)) {
    spec.fill = text.slice(0, first);
    align = s[first];
    i = first + 1;
  } else if (is_align(0)) {
    align = s[0];
    i = 1;
  }
  if (i < s.size() && (s[i] == '+' || s[i] == '-' || s[i] == ' ')) {
    spec.plus = s[i] == '+';
    spec.blank = s[i] == ' ';
    ++i;
  }
  if (i < s.size() && s[i] == '#') spec.alternate = (++i, true);
  if (i < s.size() && s[i] == '0') spec.zero = (++i, align == 0);
  spec.width = TRY(read_number(s, i));
  if (i < s.size() && s[i] == ',') spec.comma = (++i, true);
  if (i < s.size() && s[i] == '.') spec.precision = TRY(read_number(s, ++i));
  if (i < s.size()) spec.type = s[i++];
  if (i != s.size()) return error(Code::kInvalidArgument, "'{}' is no format", s);
  spec.left = align == '<';
  spec.center = align == '^';
  spec.numbers_right = align == 0 || align == '>' || align == '=';
  if (align == '=') spec.zero = true;
  return spec;
}

Result<Text> format_value(Meter& meter, const Value& value, const Text& spec_text) {
  Spec spec = TRY(parse_spec(spec_text));
  const bool right = spec_text.bytes().find('>') <= 1;
  if (value.is_number() && !(value.is_bool() && spec.type == 0)) {
    if (spec.type == 'c' || spec.type == 's' ||
        (spec.type != 0 &&
         std::string_view("dxXobeEfFgG%n").find(spec.type) == std::string_view::npos))
      return error(Code::kInvalidArgument, "'{}' cannot format a number", spec_text.bytes());
    if (spec.type == 'd' && value.is<double>())
      return error(Code::kInvalidArgument, "'d' needs an integer");
    return padded(number_text(value, spec), spec, spec.numbers_right);
  }
  if (spec.type != 0 && spec.type != 's')
    return error(Code::kInvalidArgument, "'{}' cannot format a {}", spec_text.bytes(),
                 value.type_name());
  Text out = to_text(meter, value);
  if (spec.precision >= 0) out = slice_chars(out, 0, spec.precision, 1);
  return padded(out, spec, right && !spec.left);
}

}  // namespace

Result<Value> format_percent(Meter& meter, const Text& format, const Args& args) {
  const std::string_view s = format.bytes();
  Text out;
  size_t used = 0;
  bool by_name = false;
  for (size_t i = 0; i < s.size() && !out.overflowed();) {
    const size_t percent = std::min(s.find('%', i), s.size());
    out.append_slice(format, i, percent);
    if (percent == s.size()) break;
    i = percent + 1;
    Spec spec;
    const Value* value = nullptr;
    if (i < s.size() && s[i] == '(') {
      const size_t end = s.find(')', i);
      const Dict* dict = args.positional.size() == 1 ? args.positional[0].dict() : nullptr;
      if (end == std::string_view::npos)
        return error(Code::kInvalidArgument, "%(name) is not closed");
      const std::string name(s.substr(i + 1, end - i - 1));
      if (dict) value = dict->find_text(name);
      for (const auto& [key, named] : args.named)
        if (key == name) value = &named;
      if (!value) return error(Code::kInvalidArgument, "%({}): there is no such value", name);
      by_name = true;
      i = end + 1;
    }
    for (; i < s.size(); ++i) {
      if (s[i] == '-')
        spec.left = true;
      else if (s[i] == '0')
        spec.zero = true;
      else if (s[i] == '+')
        spec.plus = true;
      else if (s[i] == ' ')
        spec.blank = true;
      else if (s[i] == '#')
        spec.alternate = true;
      else
        break;
    }
    spec.width = TRY(read_number(s, i));
    if (i < s.size() && s[i] == '.') spec.precision = TRY(read_number(s, ++i));
    if (i >= s.size())
      return error(Code::kInvalidArgument, "a format ends in the middle of a conversion");
    spec.type = s[i++];
    if (spec.type == '%') {
      out.append("%", false);
      continue;
    }
    if (!value) {
      if (used >= args.positional.size())
        return error(Code::kInvalidArgument, "a format wants more values than given");
      value = &args.positional[used++];
    }
    out.append(TRY(convert(meter, *value, spec)));
  }
  if (!by_name && used < args.positional.size() &&
      !(args.positional.size() == 1 && args.positional[0].dict()))
    return error(Code::kInvalidArgument, "a format is given more values than it wants");
  return make_text(meter, std::move(out));
}

Result<Value> format_braces(Meter& meter, const Text& format, const Args& args) {
  const std::string_view s = format.bytes();
  Text out;
  size_t next = 0;
  for (size_t i = 0; i < s.size() && !out.overflowed();) {
    const size_t brace = std::min(s.find_first_of("{}", i), s.size());
    out.append_slice(format, i, brace);
    if (brace == s.size()) break;
    if (brace + 1 < s.size() && s[brace + 1] == s[brace]) {
      out.append_slice(format, brace, brace + 1);
      i = brace + 2;
      continue;
    }
    const size_t end = s.find('}', brace);
    if (s[brace] == '}' || end == std::string_view::npos)
      return error(Code::kInvalidArgument, "a format has a single '{}'", s[brace]);
    const std::string_view field = s.substr(brace + 1, end - brace - 1);
    const size_t colon = std::min(field.find(':'), field.size());
    const std::string_view name = field.substr(0, colon);
    size_t at = 0;
    const Value* value = nullptr;
    if (name.empty()) {
      if (next < args.positional.size()) value = &args.positional[next];
      ++next;
    } else if (name.find_first_not_of("0123456789") == std::string_view::npos) {
      const auto index = static_cast<size_t>(TRY(read_number(name, at)));
      if (index < args.positional.size()) value = &args.positional[index];
    } else {
      for (const auto& [key, named] : args.named)
        if (key == name) value = &named;
    }
    if (!value)
      return error(Code::kInvalidArgument, "format: there is no value for '{{{}}}'", field);
    const Text spec = colon < field.size() ? format.slice(brace + 1 + colon + 1, end) : Text();
    out.append(TRY(format_value(meter, *value, spec)));
    i = end + 1;
  }
  return make_text(meter, std::move(out));
}

}  // namespace venturi::chat
