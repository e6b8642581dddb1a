// UTF-8, one code point at a time, and the classes of code points that tokenizers ask for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace venturi {

inline constexpr uint32_t kReplacement = 0xFFFD;

struct CodePoint {
  uint32_t value = 0;
  uint32_t length = 0;  // bytes; 0 if the bytes are not UTF-8
};

// The code point at `at`, which is inside the text. Overlong forms, surrogates and values above
// U+10FFFF are not UTF-8 (as PCRE2 has it, too).
inline CodePoint decode_utf8(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[at + i]); };
  const auto tail = [&](size_t i) { return (byte(i) & 0xC0) == 0x80; };
  const size_t left = text.size() - at;
  const uint32_t b = byte(0);
  if (b < 0x80) return {b, 1};
  if (b >= 0xC2 && b < 0xE0 && left >= 2 && tail(1)) return {(b & 31) << 6 | (byte(1) & 63u), 2};
  if (b >= 0xE0 && b < 0xF0 && left >= 3 && tail(1) && tail(2)) {
    const uint32_t c = (b & 15) << 12 | (byte(1) & 63u) << 6 | (byte(2) & 63u);
    if (c >= 0x800 && (c < 0xD800 || c > 0xDFFF)) return {c, 3};
  }
  if (b >= 0xF0 && b < 0xF5 && left >= 4 && tail(1) && tail(2) && tail(3)) {
    const uint32_t c =
        (b & 7) << 18 | (byte(1) & 63u) << 12 | (byte(2) & 63u) << 6 | (byte(3) & 63u);
    if (c >= 0x10000 && c <= 0x10FFFF) return {c, 4};
  }
  return {};
}

void append_utf8(uint32_t code_point, std::string& out);

// The bytes at `at` that could still become a code point when more bytes follow: their number, or
// 0.
size_t incomplete_utf8(std::string_view text, size_t at);

// Bytes from `at` on that are all UTF-8 (`valid`), or that all are not.
size_t utf8_run(std::string_view text, size_t at, bool valid);

enum class CharClass : uint8_t { kOther, kLetter, kNumber, kSpace };  // \p{L}, \p{N}, White_Space

CharClass char_class(uint32_t code_point);

// Unicode's White_Space property, which is what \s means to the tokenizers we follow.
bool is_white_space(uint32_t code_point);
bool is_punctuation(uint32_t code_point);      // \p{P}
bool is_nonspacing_mark(uint32_t code_point);  // \p{Mn}
bool is_control(uint32_t code_point);          // \p{C} without unassigned code points

}  // namespace venturi
