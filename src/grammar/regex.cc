#include "grammar/regex.h"

#include <charconv>

#include "tokenizers/utf8.h"

namespace venturi::grammar {

namespace {

constexpr int kMaxNesting = 100;
constexpr int kMaxRepeat = 10'000;
const Ranges kDigit = {{'0', '9'}};
const Ranges kWord = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
const Ranges kBlank = {{'\t', '\r'}, {' ', ' '}, {0xA0, 0xA0}, {0x1680, 0x1680}, {0x2000, 0x200A}, {0x2028, 0x2029},
                       {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000}, {0xFEFF, 0xFEFF}};
const Ranges kLineEnd = {{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}};

class Parser {
 public:
  Parser(Grammar& grammar, std::string_view text) : g_(grammar), parts_(grammar), text_(text) {}

  Result<int> parse() {
    std::vector<int> branches;
    do {
      // An anchor belongs to its branch.
      const bool from_start = take('^');
      const int body = TRY(sequence(0));
      const bool to_end = take('$');
      std::vector<int> items;
      if (!from_start) items.push_back(anything());
      items.push_back(body);
      if (!to_end) items.push_back(anything());
      branches.push_back(g_.sequence(std::move(items)));
    } while (take('|'));
    if (!at_end()) return wrong(peek() == ')' ? "a ) without its (" : "this is not expected here");
    return g_.choice(std::move(branches));
  }

 private:
  bool at_end() const { return at_ >= text_.size(); }
  char peek() const { return at_end() ? '\0' : text_[at_]; }
  bool take(char c) {
    if (at_end() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  Error wrong(std::string_view what) const {
    return error(Code::kInvalidArgument, "the pattern '{}', at character {}: {}", text_, at_ + 1, what);
  }
  Error cannot(std::string_view what) const {
    return error(Code::kUnsupported, "the pattern '{}', at character {}: {} cannot be held by a grammar", text_, at_ + 1, what);
  }
  int anything() { return g_.repeat(parts_.string_char(), 0, kUnbounded); }

  Result<int> alternates(int depth) {
    if (depth > kMaxNesting) return wrong("groups nest too deep");
    std::vector<int> branches;
    do branches.push_back(TRY(sequence(depth)));
    while (take('|'));
    return g_.choice(std::move(branches));
  }

  Result<int> sequence(int depth) {
    std::vector<int> items;
    while (!at_end() && peek() != '|' && peek() != ')' && peek() != '$') items.push_back(TRY(repeated(TRY(atom(depth)))));
    if (peek() == '$' && (depth > 0 || (at_ + 1 < text_.size() && text_[at_ + 1] != '|'))) return cannot("an anchor inside the pattern");
    return g_.sequence(std::move(items));
  }

  Result<int> atom(int depth) {
    const char c = peek();
    if (c == '(') {
      ++at_;
      if (take('?') && !take(':')) return cannot("(?…");
      const int group = TRY(alternates(depth + 1));
      if (!take(')')) return wrong("a ( without its )");
      return group;
    }
    if (c == '^') return cannot("an anchor inside the pattern");
    if (c == '*' || c == '+' || c == '?' || c == '{') return wrong("there is nothing to repeat");
    Ranges set;
    if (c == '[') {
      set = TRY(char_class());
    } else if (c == '.') {
      ++at_;
      set = complement(kLineEnd);
    } else {
      set = TRY(one(false)).set;
    }
    const int node = parts_.chars(set);
    if (node < 0) return cannot("a character set that no JSON string can hold");
    return node;
  }

  Result<int> repeated(int item) {
    int min = 0, max = kUnbounded;
    if (take('*')) {
    } else if (take('+')) {
      min = 1;
    } else if (take('?')) {
      max = 1;
    } else if (take('{')) {
      min = TRY(count());
      max = min;
      if (take(',')) max = peek() == '}' ? kUnbounded : TRY(count());
      if (!take('}')) return wrong("expected }");
      if (max != kUnbounded && max < min) return wrong("limits the wrong way round");
    } else {
      return item;
    }
    take('?');  // lazy or greedy: the same texts
    if (peek() == '*' || peek() == '+' || peek() == '{') return wrong("a repetition of a repetition");
    return g_.repeat(item, min, max);
  }

  Result<int> count() {
    int value = 0;
    const char* begin = text_.data() + at_;
    const auto parsed = std::from_chars(begin, text_.data() + text_.size(), value);
    if (parsed.ec != std::errc{} || value < 0 || value > kMaxRepeat) return wrong(fmt::format("expected a number, 0 to {}", kMaxRepeat));
    at_ += static_cast<size_t>(parsed.ptr - begin);
    return value;
  }

  struct One {
    Ranges set;
    bool single;  // a code point, not a class: may begin or end a range
  };
  static One point(uint32_t c) { return {{{c, c}}, true}; }

  Result<One> one(bool in_class) {
    if (peek() != '\\') {
      const CodePoint c = decode_utf8(text_, at_);
      if (c.length == 0) return wrong("this is not UTF-8");
      at_ += c.length;
      return point(c.value);
    }
    ++at_;
    if (at_end()) return wrong("a backslash ends the pattern");
    const char c = text_[at_++];
    switch (c) {
      case 'd': return One{kDigit, false};
      case 'D': return One{complement(kDigit), false};
      case 'w': return One{kWord, false};
      case 'W': return One{complement(kWord), false};
      case 's': return One{kBlank, false};
      case 'S': return One{complement(kBlank), false};
      case 'n': return point('\n');
      case 'r': return point('\r');
      case 't': return point('\t');
      case 'f': return point('\f');
      case 'v': return point('\v');
      case 'x': return hex(2);
      case 'u': return hex(4);
      default: break;
    }
    if (c == 'b' && in_class) return point('\b');
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9')) {
      --at_;
      return cannot(fmt::format("\\{}", c));
    }
    --at_;
    const CodePoint escaped = decode_utf8(text_, at_);
    if (escaped.length == 0) return wrong("this is not UTF-8");
    at_ += escaped.length;
    return point(escaped.value);
  }

  Result<One> hex(size_t digits) {
    uint32_t value = 0;
    if (at_ + digits > text_.size()) return wrong(fmt::format("expected {} hexadecimal digits", digits));
    const char* begin = text_.data() + at_;
    const auto parsed = std::from_chars(begin, begin + digits, value, 16);
    if (parsed.ec != std::errc{} || parsed.ptr != begin + digits) return wrong(fmt::format("expected {} hexadecimal digits", digits));
    if (value >= 0xD800 && value <= 0xDFFF) return cannot("a surrogate");
    at_ += digits;
    return point(value);
  }

  Result<Ranges> char_class() {
    ++at_;
    const bool negated = take('^');
    Ranges out;
    while (peek() != ']') {
      if (at_end()) return wrong("a [ without its ]");
      const One first = TRY(one(true));
      if (first.single && peek() == '-' && at_ + 1 < text_.size() && text_[at_ + 1] != ']') {
        ++at_;
        const One last = TRY(one(true));
        if (!last.single || last.set[0].first < first.set[0].first) return wrong("this is not a range");
        out.push_back({first.set[0].first, last.set[0].first});
      } else {
        out.insert(out.end(), first.set.begin(), first.set.end());
      }
    }
    ++at_;
    return negated ? complement(out) : sorted_union(std::move(out));
  }

  Grammar& g_;
  JsonParts parts_;
  std::string_view text_;
  size_t at_ = 0;
};

}  // namespace

Result<int> regex_node(Grammar& grammar, std::string_view pattern) { return Parser(grammar, pattern).parse(); }

}  // namespace venturi::grammar
