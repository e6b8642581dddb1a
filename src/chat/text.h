// A UTF-8 string in which every byte knows whether it came from outside the template (tainted).
//
// All string operations of the template language work on Text, so the mark follows each character
// through concatenation, slicing, filters and methods. Positions are bytes unless a name says
// chars; a byte that is not valid UTF-8 counts as one character. Values, no threads, nothing
// shared.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace venturi::chat {

struct Span {
  size_t begin = 0;
  size_t end = 0;
};

class Text {
 public:
  // A longer text is cut and says so by overflowed(): whoever makes a value of it reports the
  // error.
  static constexpr size_t kMaxBytes = size_t{64} << 20;

  Text() = default;
  static Text trusted(std::string_view bytes) { return Text(bytes, false); }
  static Text tainted(std::string_view bytes) { return Text(bytes, true); }

  const std::string& bytes() const { return bytes_; }
  size_t size() const { return bytes_.size(); }
  bool empty() const { return bytes_.empty(); }
  bool overflowed() const { return overflowed_; }
  const std::vector<Span>& taint() const { return taint_; }  // sorted, disjoint, never empty spans

  void append(std::string_view bytes, bool tainted);
  void append(const Text& other) { append_slice(other, 0, other.size()); }
  void append_slice(const Text& other, size_t begin, size_t end);
  Text slice(size_t begin, size_t end) const;

 private:
  Text(std::string_view bytes, bool tainted) { append(bytes, tainted); }

  std::string bytes_;
  std::vector<Span> taint_;
  bool overflowed_ = false;
};

// Answers "is this byte tainted" for positions that only grow.
class TaintCursor {
 public:
  explicit TaintCursor(const Text& text) : spans_(text.taint()) {}
  bool at(size_t position) {
    while (next_ < spans_.size() && spans_[next_].end <= position) ++next_;
    return next_ < spans_.size() && spans_[next_].begin <= position;
  }

 private:
  const std::vector<Span>& spans_;
  size_t next_ = 0;
};

// Characters. `char_at` reads the one that starts at `i` (i < size): its code point and length.
struct Char {
  uint32_t code = 0;
  size_t length = 1;
  bool valid = true;
};
Char char_at(std::string_view s, size_t i);
void append_utf8(std::string& out, uint32_t code);
bool is_ascii(std::string_view s);
size_t count_chars(std::string_view s);
// Byte position of every character and the end: size is count_chars + 1.
std::vector<size_t> char_offsets(std::string_view s);

bool is_space(uint32_t code);  // as Python's str.isspace
bool is_alpha(uint32_t code);
bool is_digit(uint32_t code);
bool is_upper(uint32_t code);
bool is_lower(uint32_t code);
bool is_printable(uint32_t code);  // as Python's repr sees it
uint32_t to_lower(uint32_t code);
uint32_t to_upper(uint32_t code);
uint32_t to_title(uint32_t code);

}  // namespace venturi::chat
