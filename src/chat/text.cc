#include "chat/text.h"

#include <utf8proc.h>

#include <algorithm>

namespace venturi::chat {

void Text::append(std::string_view bytes, bool tainted) {
  if (bytes.size() > kMaxBytes - bytes_.size()) {
    overflowed_ = true;
    return;
  }
  const size_t begin = bytes_.size();
  bytes_.append(bytes);
  if (!tainted || bytes.empty()) return;
  if (!taint_.empty() && taint_.back().end == begin) {
    taint_.back().end = bytes_.size();
  } else {
    taint_.push_back({begin, bytes_.size()});
  }
}

void Text::append_slice(const Text& other, size_t begin, size_t end) {
  end = std::min(end, other.size());
  overflowed_ |= other.overflowed_;
  if (begin >= end) return;
  if (&other == this) {  // the loop below would read what it writes
    const Text copy = other;
    return append_slice(copy, begin, end);
  }
  const std::string_view bytes = other.bytes_;
  auto span = std::lower_bound(other.taint_.begin(), other.taint_.end(), begin,
                               [](const Span& s, size_t at) { return s.end <= at; });
  size_t at = begin;
  for (; span != other.taint_.end() && span->begin < end; ++span) {
    const size_t from = std::max(span->begin, begin);
    const size_t to = std::min(span->end, end);
    append(bytes.substr(at, from - at), false);
    append(bytes.substr(from, to - from), true);
    at = to;
  }
  append(bytes.substr(at, end - at), false);
}

Text Text::slice(size_t begin, size_t end) const {
  Text out;
  out.append_slice(*this, begin, end);
  return out;
}

Char char_at(std::string_view s, size_t i) {
  const auto byte = [&](size_t k) { return static_cast<uint8_t>(s[k]); };
  const uint8_t lead = byte(i);
  if (lead < 0x80) return {lead, 1, true};
  utf8proc_int32_t code = 0;
  const auto* at = reinterpret_cast<const utf8proc_uint8_t*>(s.data()) + i;
  const auto length = utf8proc_iterate(at, static_cast<utf8proc_ssize_t>(s.size() - i), &code);
  if (length <= 0 || code < 0) return {lead, 1, false};
  return {static_cast<uint32_t>(code), static_cast<size_t>(length), true};
}

void append_utf8(std::string& out, uint32_t code) {
  utf8proc_uint8_t buffer[4];
  const auto length = utf8proc_encode_char(static_cast<utf8proc_int32_t>(code), buffer);
  out.append(reinterpret_cast<const char*>(buffer), static_cast<size_t>(length));
}

bool is_ascii(std::string_view s) {
  return std::all_of(s.begin(), s.end(), [](char c) { return static_cast<uint8_t>(c) < 0x80; });
}

size_t count_chars(std::string_view s) {
  size_t count = 0;
  for (size_t i = 0; i < s.size(); i += char_at(s, i).length) ++count;
  return count;
}

std::vector<size_t> char_offsets(std::string_view s) {
  std::vector<size_t> offsets;
  offsets.reserve(s.size() + 1);
  for (size_t i = 0; i < s.size(); i += char_at(s, i).length) offsets.push_back(i);
  offsets.push_back(s.size());
  return offsets;
}

bool is_space(uint32_t c) {
  if (c < 0x80) return (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x20);
  return c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 ||
         c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

namespace {
utf8proc_category_t category(uint32_t code) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(code));
}
}  // namespace

bool is_alpha(uint32_t code) {
  const auto c = category(code);
  return c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_LO;
}
bool is_digit(uint32_t code) { return category(code) == UTF8PROC_CATEGORY_ND; }
bool is_upper(uint32_t code) { return category(code) == UTF8PROC_CATEGORY_LU; }
bool is_lower(uint32_t code) { return category(code) == UTF8PROC_CATEGORY_LL; }

bool is_printable(uint32_t code) {
  if (code == ' ') return true;
  const auto c = category(code);
  return c != UTF8PROC_CATEGORY_CN && c < UTF8PROC_CATEGORY_ZS;
}

uint32_t to_lower(uint32_t code) {
  return static_cast<uint32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(code)));
}
uint32_t to_upper(uint32_t code) {
  return static_cast<uint32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(code)));
}
uint32_t to_title(uint32_t code) {
  return static_cast<uint32_t>(utf8proc_totitle(static_cast<utf8proc_int32_t>(code)));
}

}  // namespace venturi::chat
