#include "formats/byte_cursor.h"

#include <algorithm>
#include <cassert>

namespace venturi {

Status ByteCursor::fill(uint64_t n, std::string_view field) {
  assert(n <= kWindowBytes);
  if (offset_ - window_begin_ + n <= window_.size()) return {};
  if (n > left())
    return error(Code::kCorrupt,
                 "{}: {} at offset {} needs {} bytes, but only {} are left; the file "
                 "is truncated or damaged, fetch it again",
                 file_.path(), field, offset_, n, left());
  window_.resize(std::min(kWindowBytes, left()));
  window_begin_ = offset_;
  auto status = file_.read_exact(offset_, window_);
  if (!status.ok()) window_.clear();
  return status;
}

Status ByteCursor::append(uint64_t n, std::string_view field, std::string& out) {
  if (n > left())
    return error(Code::kCorrupt,
                 "{}: {} at offset {} is {} bytes long, but only {} are left; the file "
                 "is truncated or damaged, fetch it again",
                 file_.path(), field, offset_, n, left());
  const uint64_t in_window = std::min(n, window_begin_ + window_.size() - offset_);
  const size_t before = out.size();
  if (in_window == n) {
    out.append(reinterpret_cast<const char*>(window_.data()) + (offset_ - window_begin_), n);
  } else {
    out.resize(before + n);
    TRY(file_.read_exact(offset_, {reinterpret_cast<uint8_t*>(out.data()) + before, n}));
  }
  offset_ += n;
  // Keep "offset_ lies in the window or at its end" true after a read past it.
  if (offset_ - window_begin_ > window_.size()) {
    window_.clear();
    window_begin_ = offset_;
  }
  return {};
}

Status ByteCursor::append_string(uint64_t min_bytes, uint64_t max_bytes, bool keep_length,
                                 std::string_view field, std::string& out) {
  const uint64_t at = offset_;
  const uint64_t length = TRY(number<uint64_t>(field));
  if (length < min_bytes || length > max_bytes)
    return error(Code::kCorrupt,
                 "{}: {} at offset {}: expected a length of {} to {} bytes, found {}", file_.path(),
                 field, at, min_bytes, max_bytes, length);
  if (keep_length && length <= left())
    out.append(reinterpret_cast<const char*>(&length), sizeof length);
  return append(length, field, out);
}

std::string shown(std::string_view text) {
  std::string out = "'";
  for (const char c : text.substr(0, 80)) {
    if (c >= 0x20 && c < 0x7f)
      out += c;
    else
      out += fmt::format("\\x{:02x}", static_cast<uint8_t>(c));
  }
  return out + (text.size() > 80 ? "…'" : "'");
}

}  // namespace venturi
