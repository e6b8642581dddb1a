#include "chat/text_ops.h"

#include <algorithm>
#include <cstring>
#include <unordered_set>

namespace venturi::chat {

size_t find_bytes(std::string_view haystack, std::string_view needle, size_t from) {
  if (from > haystack.size()) return std::string_view::npos;
  const void* at =
      memmem(haystack.data() + from, haystack.size() - from, needle.data(), needle.size());
  if (at == nullptr) return std::string_view::npos;
  return static_cast<size_t>(static_cast<const char*>(at) - haystack.data());
}

size_t rfind_bytes(std::string_view haystack, std::string_view needle) {
  if (needle.empty()) return haystack.size();
  const std::string turned(haystack.rbegin(), haystack.rend());
  const std::string turned_needle(needle.rbegin(), needle.rend());
  const size_t at = find_bytes(turned, turned_needle, 0);
  return at == std::string_view::npos ? at : haystack.size() - at - needle.size();
}

Text map_chars(const Text& text, const CharMap& map) {
  Text out;
  TaintCursor taint(text);
  std::string piece;
  for (size_t i = 0; i < text.size();) {
    const Char c = char_at(text.bytes(), i);
    piece.clear();
    if (c.valid) {
      map(piece, c.code);
    } else {
      piece = text.bytes().substr(i, c.length);
    }
    out.append(piece, taint.at(i));
    i += c.length;
  }
  return out;
}

namespace {

// The common one of the few characters whose upper case is more than one.
void append_upper(std::string& out, uint32_t code) {
  if (code == 0xdf) {
    out += "SS";
  } else {
    append_utf8(out, to_upper(code));
  }
}
void append_title(std::string& out, uint32_t code) {
  if (code == 0xdf) {
    out += "Ss";
  } else {
    append_utf8(out, to_title(code));
  }
}
void append_lower(std::string& out, uint32_t code) { append_utf8(out, to_lower(code)); }

}  // namespace

Text upper(const Text& text) { return map_chars(text, append_upper); }
Text lower(const Text& text) { return map_chars(text, append_lower); }

Text swap_case(const Text& text) {
  return map_chars(text, [](std::string& out, uint32_t c) {
    is_upper(c) ? append_lower(out, c) : append_upper(out, c);
  });
}

Text capitalize(const Text& text) {
  bool first = true;
  return map_chars(text, [&](std::string& out, uint32_t c) {
    std::exchange(first, false) ? append_title(out, c) : append_lower(out, c);
  });
}

Text title(const Text& text) {
  bool in_word = false;
  return map_chars(text, [&](std::string& out, uint32_t c) {
    in_word ? append_lower(out, c) : append_title(out, c);
    in_word = is_alpha(c);
  });
}

Text title_words(const Text& text) {
  bool in_word = false;
  return map_chars(text, [&](std::string& out, uint32_t c) {
    const bool breaks = is_space(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<';
    in_word ? append_lower(out, c) : append_upper(out, c);
    in_word = !breaks;
  });
}

Text strip(const Text& text, const Text* chars, bool left, bool right) {
  const std::string_view s = text.bytes();
  std::unordered_set<uint32_t> set;
  for (size_t i = 0; chars != nullptr && i < chars->size();) {
    const Char c = char_at(chars->bytes(), i);
    set.insert(c.code);
    i += c.length;
  }
  const auto goes = [&](Char c) {
    if (chars == nullptr) return c.valid && is_space(c.code);
    return set.contains(c.code);
  };
  size_t begin = 0;
  size_t end = s.size();
  if (left) {
    while (begin < end) {
      const Char c = char_at(s, begin);
      if (!goes(c)) break;
      begin += c.length;
    }
  }
  while (right && begin < end) {
    size_t last = end - 1;  // back to the start of the last character
    while (last > begin && end - last < 4 && (static_cast<uint8_t>(s[last]) & 0xc0) == 0x80) --last;
    Char c = char_at(s, last);
    if (last + c.length != end) {
      last = end - 1;
      c = char_at(s, last);
    }
    if (!goes(c)) break;
    end = last;
  }
  return text.slice(begin, end);
}

namespace {

std::vector<Text> split_words(const Text& text, int64_t limit) {
  std::vector<Text> parts;
  const std::string_view s = text.bytes();
  size_t i = 0;
  const auto skip = [&](bool spaces) {
    while (i < s.size()) {
      const Char c = char_at(s, i);
      if ((c.valid && is_space(c.code)) != spaces) break;
      i += c.length;
    }
  };
  for (;;) {
    skip(true);
    if (i >= s.size()) return parts;
    if (limit >= 0 && static_cast<int64_t>(parts.size()) >= limit) {
      parts.push_back(text.slice(i, s.size()));
      return parts;
    }
    const size_t begin = i;
    skip(false);
    parts.push_back(text.slice(begin, i));
  }
}

}  // namespace

std::vector<Text> split(const Text& text, const Text* separator, int64_t limit) {
  if (separator == nullptr) return split_words(text, limit);
  std::vector<Text> parts;
  size_t begin = 0;
  while (limit < 0 || static_cast<int64_t>(parts.size()) < limit) {
    const size_t at = find_bytes(text.bytes(), separator->bytes(), begin);
    if (at == std::string::npos) break;
    parts.push_back(text.slice(begin, at));
    begin = at + separator->size();
  }
  parts.push_back(text.slice(begin, text.size()));
  return parts;
}

std::vector<Text> split_from_right(const Text& text, const Text* separator, int64_t limit) {
  std::vector<Text> out;
  if (separator == nullptr) {
    const Text head = strip(text, nullptr, false, true);
    const std::vector<Text> words = split(head, nullptr, -1);
    size_t kept = limit < 0 ? words.size() : std::min(words.size(), static_cast<size_t>(limit));
    size_t end = head.size();
    for (auto word = words.rbegin(); kept > 0; ++word, --kept) {
      out.push_back(*word);
      end = strip(head.slice(0, end - word->size()), nullptr, false, true).size();
    }
    if (end > 0 && out.size() < words.size()) out.push_back(head.slice(0, end));
  } else {
    const std::string turned(text.bytes().rbegin(), text.bytes().rend());
    const std::string needle(separator->bytes().rbegin(), separator->bytes().rend());
    size_t begin = 0;
    while (limit < 0 || static_cast<int64_t>(out.size()) < limit) {
      const size_t at = find_bytes(turned, needle, begin);
      if (at == std::string::npos) break;
      out.push_back(text.slice(text.size() - at, text.size() - begin));
      begin = at + needle.size();
    }
    out.push_back(text.slice(0, text.size() - begin));
  }
  std::reverse(out.begin(), out.end());
  return out;
}

std::vector<Text> split_lines(const Text& text, bool keep_ends) {
  const std::string_view s = text.bytes();
  std::vector<Text> lines;
  size_t begin = 0;
  for (size_t i = 0; i < s.size();) {
    const Char c = char_at(s, i);
    const size_t at = i;
    i += c.length;
    const bool ends = (c.code >= 0x0a && c.code <= 0x0d) || (c.code >= 0x1c && c.code <= 0x1e) ||
                      (c.valid && (c.code == 0x85 || c.code == 0x2028 || c.code == 0x2029));
    if (!ends) continue;
    if (c.code == '\r' && i < s.size() && s[i] == '\n') ++i;
    lines.push_back(text.slice(begin, keep_ends ? i : at));
    begin = i;
  }
  if (begin < s.size()) lines.push_back(text.slice(begin, s.size()));
  return lines;
}

Text replace(const Text& text, const Text& from, const Text& to, int64_t limit) {
  Text out;
  size_t begin = 0;
  size_t search = 0;
  for (int64_t done = 0; (limit < 0 || done < limit) && !out.overflowed(); ++done) {
    const size_t at = find_bytes(text.bytes(), from.bytes(), search);
    if (at == std::string::npos) break;
    out.append_slice(text, begin, at);
    out.append(to);
    begin = search = at + from.size();
    if (from.empty()) {  // between all characters
      if (at >= text.size()) break;
      search = at + char_at(text.bytes(), at).length;
    }
  }
  out.append_slice(text, begin, text.size());
  return out;
}

Text repeat(const Text& text, int64_t times) {
  Text out;
  if (text.empty()) return out;
  for (int64_t i = 0; i < times && !out.overflowed(); ++i) out.append(text);
  return out;
}

Text pad(const Text& text, int64_t width, const Text& fill, bool left, bool right) {
  const int64_t missing = width - static_cast<int64_t>(count_chars(text.bytes()));
  if (missing <= 0) return text;
  int64_t before = left ? missing : 0;
  if (left && right) before = missing / 2 + (missing & width & 1);
  Text out = repeat(fill, before);
  out.append(text);
  out.append(repeat(fill, missing - before));
  return out;
}

std::vector<size_t> slice_positions(size_t size, std::optional<int64_t> begin,
                                    std::optional<int64_t> end, int64_t step) {
  const auto n = static_cast<int64_t>(size);
  const bool forward = step > 0;
  const auto clamp = [&](std::optional<int64_t> at, int64_t otherwise) {
    if (!at) return otherwise;
    int64_t x = *at;
    if (x < 0) x = x < -n ? -1 : x + n;
    if (*at < 0 && x < 0) return forward ? int64_t{0} : int64_t{-1};
    const int64_t last = forward ? n : n - 1;
    return x > last ? last : x;
  };
  const int64_t from = clamp(begin, forward ? 0 : n - 1);
  const int64_t to = clamp(end, forward ? n : -1);
  std::vector<size_t> positions;
  if (forward) {
    for (int64_t i = from; i<to; i = step> to - i ? to : i + step)
      positions.push_back(static_cast<size_t>(i));
  } else {
    for (int64_t i = from; i > to; i = step < to - i ? to : i + step)
      positions.push_back(static_cast<size_t>(i));
  }
  return positions;
}

Text slice_chars(const Text& text, std::optional<int64_t> begin, std::optional<int64_t> end,
                 int64_t step) {
  const bool ascii = is_ascii(text.bytes());
  const std::vector<size_t> offsets = ascii ? std::vector<size_t>() : char_offsets(text.bytes());
  const auto offset = [&](size_t i) { return ascii ? i : offsets[i]; };
  const size_t size = ascii ? text.size() : offsets.size() - 1;
  const std::vector<size_t> positions = slice_positions(size, begin, end, step);
  if (positions.empty()) return {};
  if (step == 1) return text.slice(offset(positions.front()), offset(positions.back() + 1));
  Text out;
  for (const size_t i : positions) out.append_slice(text, offset(i), offset(i + 1));
  return out;
}

}  // namespace venturi::chat
