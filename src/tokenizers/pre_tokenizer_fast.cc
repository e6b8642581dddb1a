// Hand-written equivalents of the most used patterns. Each function mirrors the alternatives of its
// pattern in their order; pre_tokenizer_test.cc compares them with PCRE2 on random strings.
#include <utf8proc.h>

#include "tokenizers/pre_tokenizer.h"
#include "tokenizers/utf8.h"

namespace venturi {

namespace {

struct Char {
  uint32_t value = 0;
  uint32_t length = 0;  // 0 at the end of the piece
  CharClass kind = CharClass::kOther;

  bool is(CharClass k) const { return length != 0 && kind == k; }
  bool is_newline() const { return length != 0 && (value == '\n' || value == '\r'); }
  // [^\s\p{L}\p{N}]
  bool is_other() const { return is(CharClass::kOther); }
};

Char char_at(std::string_view text, size_t at) {
  if (at >= text.size()) return {};
  const uint8_t first = static_cast<uint8_t>(text[at]);
  if (first < 0x80) return {first, 1, char_class(first)};
  const CodePoint c = decode_utf8(text, at);
  return {c.value, c.length, char_class(c.value)};
}

size_t skip(std::string_view text, size_t at, CharClass kind) {
  for (Char c = char_at(text, at); c.is(kind); c = char_at(text, at)) at += c.length;
  return at;
}

// The length of 's|'t|'re|'ve|'m|'ll|'d at `at`, where an apostrophe stands; 0 if none.
// With case folded, U+017F (long s) is an s, too.
size_t contraction(std::string_view text, size_t at, bool fold) {
  const auto letter = [&](size_t i) -> char {
    if (i >= text.size()) return 0;
    const char c = text[i];
    return fold && c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  };
  const char a = letter(at + 1), b = letter(at + 2);
  if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
  if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l')) return 3;
  if (fold && text.substr(at + 1).starts_with("\u017F")) return 3;
  return 0;
}

// \s+(?!\S)|\s+ at `at`, where white space stands: all of it at the end of the piece, else all but
// the last character, else that one.
size_t white_space_end(std::string_view text, size_t at) {
  size_t end = at, last = at;
  for (Char c = char_at(text, end); c.is(CharClass::kSpace); c = char_at(text, end)) {
    last = end;
    end += c.length;
  }
  return end == text.size() || last == at ? end : last;
}

void split_gpt2(std::string_view text, size_t base, std::vector<size_t>& ends) {
  for (size_t at = 0; at < text.size(); ends.push_back(base + at)) {
    const Char c = char_at(text, at);
    if (c.value == '\'') {
      if (const size_t length = contraction(text, at, false)) {
        at += length;
        continue;
      }
    }
    const Char word = c.value == ' ' ? char_at(text, at + 1) : c;
    if (word.length != 0 && word.kind != CharClass::kSpace) {
      at = skip(text, at + (c.value == ' '), word.kind);
    } else {
      at = white_space_end(text, at);
    }
  }
}

// \s*[\r\n]+ at `at`, where white space stands: up to the last line end in it; `at` if it has none.
size_t line_end(std::string_view text, size_t at) {
  size_t end = at;
  for (Char c = char_at(text, at); c.is(CharClass::kSpace); c = char_at(text, at)) {
    at += c.length;
    if (c.is_newline()) end = at;
  }
  return end;
}

template <int max_digits>
size_t llama3_word_end(std::string_view text, size_t at) {
  const Char c = char_at(text, at);
  if (c.value == '\'') {
    if (const size_t length = contraction(text, at, true)) return at + length;
  }
  if (c.is(CharClass::kLetter)) return skip(text, at, CharClass::kLetter);
  if (c.is(CharClass::kNumber)) {
    for (int i = 0; i < max_digits; ++i) {
      const Char digit = char_at(text, at);
      if (!digit.is(CharClass::kNumber)) break;
      at += digit.length;
    }
    return at;
  }
  const Char next = char_at(text, at + c.length);
  if (!c.is_newline() && next.is(CharClass::kLetter))
    return skip(text, at + c.length, CharClass::kLetter);
  if (c.is_other() || (c.value == ' ' && next.is_other())) {
    at = skip(text, at + (c.value == ' '), CharClass::kOther);
    while (char_at(text, at).is_newline()) ++at;
    return at;
  }
  const size_t line = line_end(text, at);
  return line > at ? line : white_space_end(text, at);
}

template <int max_digits>
void split_llama3(std::string_view text, size_t base, std::vector<size_t>& ends) {
  for (size_t at = 0; at < text.size();) {
    at = llama3_word_end<max_digits>(text, at);
    ends.push_back(base + at);
  }
}

void split_digits(std::string_view text, size_t base, std::vector<size_t>& ends) {
  size_t begin = 0;  // of what has no digit
  for (size_t at = 0; at < text.size();) {
    const Char c = char_at(text, at);
    if (c.is(CharClass::kNumber)) {
      if (at > begin) ends.push_back(base + at);
      ends.push_back(base + at + c.length);
      begin = at + c.length;
    }
    at += c.length;
  }
  if (begin < text.size()) ends.push_back(base + text.size());
}

bool is_decimal(const Char& c) {
  return c.length != 0 &&
         utf8proc_category(static_cast<utf8proc_int32_t>(c.value)) == UTF8PROC_CATEGORY_ND;
}

// [\p{L}\p{M}\p{Nd}\p{Pc}]
bool is_word(const Char& c) {
  if (c.length == 0) return false;
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c.value))) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_PC:
      return true;
    default:
      return c.kind == CharClass::kLetter;
  }
}

// Runs of digits in threes from the right. `matches`: the groups are matches (and no word
// character follows the run), so a cut falls before and behind the run; otherwise only positions
// with whole threes behind them are cuts.
template <bool matches>
void split_thousands(std::string_view text, size_t base, std::vector<size_t>& ends) {
  size_t last = 0;  // the last cut
  const auto cut = [&](size_t at) {
    if (at > last) ends.push_back(base + at);
    last = at;
  };
  std::vector<size_t> digits;  // where each digit of a run begins
  for (size_t at = 0; at < text.size();) {
    Char c = char_at(text, at);
    if (!is_decimal(c)) {
      at += c.length;
      continue;
    }
    digits.clear();
    for (; is_decimal(c); c = char_at(text, at)) {
      digits.push_back(at);
      at += c.length;
    }
    if (matches && is_word(c)) continue;
    if (matches) cut(digits.front());
    for (size_t i = 0; i < digits.size(); ++i)
      if ((digits.size() - i) % 3 == 0) cut(digits[i]);
    if (matches) cut(at);
  }
  cut(text.size());
}

constexpr FastSplit kFastSplits[] = {
    {kGpt2Pattern, split_gpt2},
    {kLlama3Pattern, split_llama3<3>},
    {kQwen2Pattern, split_llama3<1>},
    {kDigitPattern, split_digits},
    {kThousandsPattern, split_thousands<true>},
    {kThousandsCutPattern, split_thousands<false>},
};

}  // namespace

std::span<const FastSplit> all_fast_splits() { return kFastSplits; }

}  // namespace venturi
