#include "chat/lexer.h"

#include <algorithm>

#include "chat/text.h"

namespace venturi::chat {

std::string position_of(std::string_view source, size_t offset) {
  const std::string_view before = source.substr(0, offset);
  const size_t line = 1 + static_cast<size_t>(std::count(before.begin(), before.end(), '\n'));
  const size_t newline = before.rfind('\n');
  const auto last = newline == std::string_view::npos ? before : before.substr(newline + 1);
  return fmt::format("line {}, column {}", line, count_chars(last) + 1);
}

std::string normalise_source(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      out += source[i];
      continue;
    }
    out += '\n';
    if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

namespace {

bool is_word(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         static_cast<uint8_t>(c) >= 0x80;
}
bool is_digit_char(char c) { return c >= '0' && c <= '9'; }

class Lexer {
 public:
  explicit Lexer(std::string_view source) : s_(source) {}

  Result<std::vector<Token>> run() {
    while (at_ < s_.size()) {
      const size_t tag = next_tag(at_);
      if (tag == std::string_view::npos) {
        add(TokenType::kData, std::string(s_.substr(at_)), at_);
        break;
      }
      if (auto status = read_tag(tag); !status) return std::move(status).error();
    }
    add(TokenType::kEnd, "", s_.size());
    return std::move(tokens_);
  }

 private:
  template <typename... A>
  Error fail(size_t offset, fmt::format_string<A...> format, A&&... args) const {
    return error(Code::kCorrupt, "template {}: {}", position_of(s_, offset),
                 fmt::format(format, std::forward<A>(args)...));
  }

  bool starts(size_t at, std::string_view what) const { return s_.substr(at, what.size()) == what; }

  void add(TokenType type, std::string text, size_t offset) {
    if (type == TokenType::kData && text.empty()) return;
    tokens_.push_back({type, std::move(text), offset});
  }

  size_t next_tag(size_t from) const {
    for (size_t i = from; i + 1 < s_.size(); ++i)
      if (s_[i] == '{' && (s_[i + 1] == '{' || s_[i + 1] == '%' || s_[i + 1] == '#')) return i;
    return std::string_view::npos;
  }

  size_t skip_space(size_t at) const {
    while (at < s_.size()) {
      const Char c = char_at(s_, at);
      if (!is_space(c.code) || !c.valid) break;
      at += c.length;
    }
    return at;
  }

  // The text before a tag, less what the tag's sign or lstrip_blocks removes.
  std::string_view before_tag(size_t begin, size_t end, char sign, bool is_print) const {
    const std::string_view data = s_.substr(begin, end - begin);
    if (sign == '-') {
      size_t keep = 0;
      for (size_t i = 0; i < data.size();) {
        const Char c = char_at(data, i);
        i += c.length;
        if (!is_space(c.code) || !c.valid) keep = i;
      }
      return data.substr(0, keep);
    }
    if (sign == '+' || is_print) return data;
    const size_t newline = data.rfind('\n');
    const size_t line = newline == std::string_view::npos ? 0 : newline + 1;
    if (line == 0 && begin > 0 && s_[begin - 1] != '\n') return data;  // a tag stands before it
    for (size_t i = line; i < data.size();) {
      const Char c = char_at(data, i);
      if (!is_space(c.code) || !c.valid) return data;
      i += c.length;
    }
    return data.substr(0, line);
  }

  // Where text goes on after a tag whose closing delimiter starts at `close` (its sign included).
  size_t after_close(size_t close, bool trims_newline) const {
    if (s_[close] == '-') return skip_space(close + 3);
    if (s_[close] == '+') return close + 3;
    const size_t end = close + 2;
    return trims_newline && end < s_.size() && s_[end] == '\n' ? end + 1 : end;
  }

  Status read_tag(size_t tag) {
    const char kind = s_[tag + 1];
    const char sign =
        tag + 2 < s_.size() && (s_[tag + 2] == '-' || s_[tag + 2] == '+') ? s_[tag + 2] : 0;
    const size_t inside = tag + 2 + (sign ? 1 : 0);
    add(TokenType::kData, std::string(before_tag(at_, tag, sign, kind == '{')), at_);
    if (kind == '#') return read_comment(tag, inside);
    if (kind == '%' && starts(skip_space(inside), "raw")) {
      const size_t close = skip_space(skip_space(inside) + 3);
      if (starts(close, "%}")) return read_raw(tag, close + 2);
      if (starts(close, "-%}")) return read_raw(tag, skip_space(close + 3));
    }
    return read_code(tag, inside, kind == '{');
  }

  Status read_comment(size_t tag, size_t inside) {
    const size_t end = s_.find("#}", inside);
    if (end == std::string_view::npos)
      return fail(tag, "this comment is not closed: '#}}' expected");
    const bool has_sign = end > inside && (s_[end - 1] == '-' || s_[end - 1] == '+');
    at_ = after_close(has_sign ? end - 1 : end, true);
    return {};
  }

  Status read_raw(size_t tag, size_t begin) {
    for (size_t i = s_.find("{%", begin); i != std::string_view::npos; i = s_.find("{%", i + 1)) {
      const char sign = i + 2 < s_.size() && (s_[i + 2] == '-' || s_[i + 2] == '+') ? s_[i + 2] : 0;
      const size_t name = skip_space(i + 2 + (sign ? 1 : 0));
      if (!starts(name, "endraw")) continue;
      const size_t close = skip_space(name + 6);
      if (!starts(close, "%}") && !starts(close, "-%}") && !starts(close, "+%}")) continue;
      add(TokenType::kData, std::string(before_tag(begin, i, sign, false)), begin);
      at_ = after_close(close, true);
      return {};
    }
    return fail(tag, "this raw block is not closed: '{{% endraw %}}' expected");
  }

  Status read_code(size_t tag, size_t inside, bool is_print) {
    const std::string_view close = is_print ? "}}" : "%}";
    add(is_print ? TokenType::kPrintBegin : TokenType::kBlockBegin, is_print ? "{{" : "{%", tag);
    std::string open;  // brackets not yet closed: inside them "}}" is two braces
    size_t i = inside;
    for (;;) {
      i = skip_space(i);
      if (i >= s_.size()) return fail(tag, "this tag is not closed: '{}' expected", close);
      const bool signed_close =
          (s_[i] == '-' || (s_[i] == '+' && !is_print)) && starts(i + 1, close);
      if (open.empty() && (signed_close || starts(i, close))) {
        add(is_print ? TokenType::kPrintEnd : TokenType::kBlockEnd, std::string(close), i);
        at_ = after_close(i, !is_print);
        return {};
      }
      if (auto status = read_token(i, open); !status) return status;
    }
  }

  Status read_token(size_t& i, std::string& open) {
    const char c = s_[i];
    if (is_digit_char(c)) return read_number(i);
    if (is_word(c)) {
      const size_t begin = i;
      while (i < s_.size() && is_word(s_[i])) ++i;
      add(TokenType::kName, std::string(s_.substr(begin, i - begin)), begin);
      return {};
    }
    if (c == '\'' || c == '"') return read_string(i);
    constexpr std::string_view kOperators[] = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/",
                                               "*",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                               "<",  ">",  "=",  ".",  ":",  "|",  ",", ";"};
    for (const std::string_view op : kOperators) {
      if (!starts(i, op)) continue;
      if (auto status = track_brackets(op[0], i, open); !status) return status;
      add(TokenType::kOperator, std::string(op), i);
      i += op.size();
      return {};
    }
    return fail(i, "'{}' has no meaning here", s_.substr(i, 1));
  }

  Status track_brackets(char c, size_t i, std::string& open) const {
    if (c == '(' || c == '[' || c == '{') {
      open += c == '(' ? ')' : (c == '[' ? ']' : '}');
    } else if (c == ')' || c == ']' || c == '}') {
      if (open.empty()) return fail(i, "'{}' closes nothing", c);
      if (open.back() != c) return fail(i, "'{}' expected, '{}' found", open.back(), c);
      open.pop_back();
    }
    return {};
  }

  Status read_number(size_t& i) {
    const size_t begin = i;
    std::string digits;
    const auto run = [&](auto&& accept) {
      for (; i < s_.size() &&
             (accept(s_[i]) || (s_[i] == '_' && i + 1 < s_.size() && accept(s_[i + 1])));
           ++i)
        if (s_[i] != '_') digits += s_[i];
    };
    if (s_[i] == '0' && i + 1 < s_.size() &&
        std::string_view("xXoObB").find(s_[i + 1]) != std::string_view::npos) {
      digits = std::string(s_.substr(i, 2));
      i += 2;
      run([](char c) {
        return is_digit_char(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
      });
      add(TokenType::kInteger, digits, begin);
      return {};
    }
    run(is_digit_char);
    bool is_float = false;
    if (i + 1 < s_.size() && s_[i] == '.' && is_digit_char(s_[i + 1])) {
      is_float = true;
      digits += '.';
      ++i;
      run(is_digit_char);
    }
    if (i < s_.size() && (s_[i] == 'e' || s_[i] == 'E')) {
      const size_t sign = i + 1 < s_.size() && (s_[i + 1] == '-' || s_[i + 1] == '+') ? 1 : 0;
      if (i + 1 + sign < s_.size() && is_digit_char(s_[i + 1 + sign])) {
        is_float = true;
        digits += s_.substr(i, 1 + sign);
        i += 1 + sign;
        run(is_digit_char);
      }
    }
    add(is_float ? TokenType::kFloat : TokenType::kInteger, digits, begin);
    return {};
  }

  Status read_string(size_t& i) {
    const size_t begin = i;
    const char quote = s_[i++];
    std::string out;
    while (i < s_.size() && s_[i] != quote) {
      if (s_[i] != '\\') {
        out += s_[i++];
      } else if (auto status = read_escape(i, out); !status) {
        return status;
      }
    }
    if (i >= s_.size()) return fail(begin, "this string is not closed: {} expected", quote);
    ++i;
    add(TokenType::kString, std::move(out), begin);
    return {};
  }

  // The escapes of Python's strings, but for names of characters.
  Status read_escape(size_t& i, std::string& out) {
    const size_t begin = i;
    if (i + 1 >= s_.size()) return fail(begin, "a string ends in the middle of an escape");
    const char c = s_[i + 1];
    i += 2;
    constexpr std::string_view kFrom = "ntrabfv\\'\"";
    constexpr std::string_view kTo = "\n\t\r\a\b\f\v\\'\"";
    if (const size_t k = kFrom.find(c); k != std::string_view::npos) {
      out += kTo[k];
    } else if (c == '\n') {  // a line goes on
    } else if (c >= '0' && c <= '7') {
      uint32_t code = 0;
      for (--i; i < begin + 4 && i < s_.size() && s_[i] >= '0' && s_[i] <= '7'; ++i)
        code = code * 8 + static_cast<uint32_t>(s_[i] - '0');
      append_utf8(out, code);
    } else if (c == 'x' || c == 'u' || c == 'U') {
      const size_t digits = c == 'x' ? 2 : (c == 'u' ? 4 : 8);
      uint32_t code = 0;
      for (size_t k = 0; k < digits; ++k, ++i) {
        const char h = i < s_.size() ? s_[i] : 0;
        const bool is_hex = is_digit_char(h) || (h >= 'a' && h <= 'f') || (h >= 'A' && h <= 'F');
        if (!is_hex) return fail(begin, "\\{} needs {} hexadecimal digits", c, digits);
        code = code * 16 + static_cast<uint32_t>(is_digit_char(h) ? h - '0' : (h | 32) - 'a' + 10);
      }
      if (code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
        return fail(begin, "U+{:X} is not a character", code);
      append_utf8(out, code);
    } else {
      out += '\\';
      out += c;
    }
    return {};
  }

  std::string_view s_;
  size_t at_ = 0;
  std::vector<Token> tokens_;
};

}  // namespace

Result<std::vector<Token>> tokenise_template(std::string_view source) {
  return Lexer(source).run();
}

}  // namespace venturi::chat
