// GBNF, read by recursive descent.
#include <charconv>

#include "grammar/grammar.h"
#include "tokenizers/utf8.h"

namespace venturi::grammar {

namespace {

constexpr int kMaxNesting = 200;
constexpr int kMaxRepeat = 100'000;

bool is_name(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Result<Grammar> parse() {
    skip_lines();
    while (!at_end()) {
      if (auto status = rule(); !status) return std::move(status).error();
      skip_lines();
    }
    if (!grammar_.defined("root")) return error(Code::kInvalidArgument, "the grammar has no rule named root");
    for (const Grammar::Rule& r : grammar_.rules())
      if (r.node < 0) return error(Code::kInvalidArgument, "the grammar refers to the rule {}, which it does not define", r.name);
    return std::move(grammar_);
  }

 private:
  bool at_end() const { return at_ >= text_.size(); }
  char peek() const { return at_end() ? '\0' : text_[at_]; }
  bool starts(std::string_view s) const { return text_.substr(at_).starts_with(s); }

  Error wrong(std::string_view what) const {
    int line = 1, column = 1;
    for (size_t i = 0; i < at_ && i < text_.size(); ++i) {
      column = text_[i] == '\n' ? 1 : column + 1;
      line += text_[i] == '\n';
    }
    return error(Code::kInvalidArgument, "grammar, line {}, column {}: {}", line, column, what);
  }

  void skip_comment() {
    while (!at_end() && peek() != '\n') ++at_;
  }
  void skip_blanks() {
    while (peek() == ' ' || peek() == '\t') ++at_;
    if (peek() == '#') skip_comment();
  }
  void skip_lines() {
    for (;;) {
      skip_blanks();
      if (peek() != '\n' && peek() != '\r') return;
      ++at_;
    }
  }
  // Inside parentheses lines may break anywhere; outside, before or after "|" only.
  void skip_space(bool nested) {
    if (nested) return skip_lines();
    skip_blanks();
    const size_t here = at_;
    skip_lines();
    if (peek() != '|') at_ = here;
  }

  std::string name() {
    const size_t begin = at_;
    while (is_name(peek())) ++at_;
    return std::string(text_.substr(begin, at_ - begin));
  }

  Status rule() {
    const std::string rule_name = name();
    if (rule_name.empty()) return wrong("expected the name of a rule");
    skip_blanks();
    if (!starts("::=")) return wrong(fmt::format("expected ::= after {}", rule_name));
    at_ += 3;
    if (grammar_.defined(rule_name)) return wrong(fmt::format("the rule {} is defined twice", rule_name));
    skip_lines();
    grammar_.define(rule_name, TRY(alternates(false)));
    skip_blanks();
    if (!at_end() && peek() != '\n' && peek() != '\r') return wrong(fmt::format("'{}' was not expected here", peek()));
    return {};
  }

  Result<int> alternates(bool nested) {
    if (++depth_ > kMaxNesting) return wrong(fmt::format("parentheses nest deeper than {}", kMaxNesting));
    std::vector<int> choices = {TRY(sequence(nested))};
    while (peek() == '|') {
      ++at_;
      skip_lines();
      choices.push_back(TRY(sequence(nested)));
    }
    --depth_;
    return grammar_.choice(std::move(choices));
  }

  Result<int> sequence(bool nested) {
    std::vector<int> items;
    for (;;) {
      skip_space(nested);
      const char c = peek();
      int item = 0;
      if (c == '"') {
        item = TRY(literal());
      } else if (c == '[') {
        item = TRY(char_class());
      } else if (c == '.') {
        ++at_;
        item = grammar_.any_of({{0, kLastCodePoint}});
      } else if (c == '(') {
        ++at_;
        item = TRY(alternates(true));
        skip_lines();
        if (peek() != ')') return wrong("expected )");
        ++at_;
      } else if (is_name(c)) {
        item = grammar_.reference(name());
      } else {
        return grammar_.sequence(std::move(items));
      }
      items.push_back(TRY(repeated(item)));
    }
  }

  Result<int> repeated(int item) {
    for (;;) {
      const char c = peek();
      if (c == '*' || c == '+' || c == '?') {
        ++at_;
        item = grammar_.repeat(item, c == '+' ? 1 : 0, c == '?' ? 1 : kUnbounded);
      } else if (c == '{') {
        ++at_;
        const int min = TRY(count());
        int max = min;
        skip_blanks();
        if (peek() == ',') {
          ++at_;
          skip_blanks();
          max = peek() == '}' ? kUnbounded : TRY(count());
        }
        skip_blanks();
        if (peek() != '}') return wrong("expected }");
        if (max != kUnbounded && max < min) return wrong(fmt::format("{{{},{}}} has its limits the wrong way round", min, max));
        ++at_;
        item = grammar_.repeat(item, min, max);
      } else {
        return item;
      }
      if (++repeats_ > 100'000) return wrong("too many repetitions");
    }
  }

  Result<int> count() {
    skip_blanks();
    int value = 0;
    const char* begin = text_.data() + at_;
    const auto parsed = std::from_chars(begin, text_.data() + text_.size(), value);
    if (parsed.ec != std::errc{} || value < 0 || value > kMaxRepeat)
      return wrong(fmt::format("expected a number of repetitions, 0 to {}", kMaxRepeat));
    at_ += static_cast<size_t>(parsed.ptr - begin);
    return value;
  }

  Result<uint32_t> hex(int digits) {
    uint32_t value = 0;
    for (int i = 0; i < digits; ++i) {
      const char c = peek();
      const int d = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
      if (d < 0) return wrong(fmt::format("expected {} hexadecimal digits", digits));
      value = value * 16 + static_cast<uint32_t>(d);
      ++at_;
    }
    if (value > kLastCodePoint || (value >= 0xD800 && value <= 0xDFFF)) return wrong("this is not a code point");
    return value;
  }

  Result<uint32_t> character() {
    if (peek() != '\\') {
      const CodePoint c = decode_utf8(text_, at_);
      if (c.length == 0) return wrong("the text is not UTF-8 here");
      at_ += c.length;
      return c.value;
    }
    ++at_;
    const char c = peek();
    if (at_end()) return wrong("a backslash ends the grammar");
    ++at_;
    switch (c) {
      case 'n': return uint32_t{'\n'};
      case 'r': return uint32_t{'\r'};
      case 't': return uint32_t{'\t'};
      case 'x': return hex(2);
      case 'u': return hex(4);
      case 'U': return hex(8);
      case '\\': case '"': case '[': case ']': case '-': case '^': return static_cast<uint32_t>(c);
      default: --at_; return wrong(fmt::format("the escape \\{} is not known", c));
    }
  }

  Result<int> literal() {
    ++at_;
    std::string bytes;
    while (peek() != '"') {
      if (at_end() || peek() == '\n') return wrong("expected \" before the end of the line");
      append_utf8(TRY(character()), bytes);
    }
    ++at_;
    return grammar_.bytes(bytes);
  }

  Result<int> char_class() {
    ++at_;
    const bool negated = peek() == '^';
    if (negated) ++at_;
    Ranges ranges;
    while (peek() != ']') {
      if (at_end() || peek() == '\n') return wrong("expected ] before the end of the line");
      const uint32_t first = TRY(character());
      uint32_t last = first;
      if (peek() == '-' && at_ + 1 < text_.size() && text_[at_ + 1] != ']') {
        ++at_;
        last = TRY(character());
        if (last < first) return wrong("this range has its ends the wrong way round");
      }
      ranges.push_back({first, last});
    }
    ++at_;
    return grammar_.any_of(negated ? complement(ranges) : std::move(ranges));
  }

  std::string_view text_;
  size_t at_ = 0;
  int depth_ = 0, repeats_ = 0;
  Grammar grammar_;
};

}  // namespace

Result<Grammar> parse_gbnf(std::string_view text) { return Parser(text).parse(); }

}  // namespace venturi::grammar
