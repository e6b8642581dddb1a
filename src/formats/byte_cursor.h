// Reads a file's header front to back through a small window, and never past a limit: every length
// is compared with the bytes that remain before anything is allocated for it.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/file.h"
#include "base/result.h"

namespace venturi {

class ByteCursor {
 public:
  // Bytes at `limit` and beyond are out of reach, whatever the file holds.
  ByteCursor(const File& file, uint64_t limit) : file_(file), limit_(limit) {}

  uint64_t offset() const { return offset_; }
  uint64_t left() const { return limit_ - offset_; }

  // `field` names what is read, for the error.
  template <typename T>
  requires std::is_arithmetic_v<T> Result<T> number(std::string_view field) {
    static_assert(std::endian::native == std::endian::little);
    if (auto status = fill(sizeof(T), field); !status.ok()) return std::move(status).error();
    T value;
    std::memcpy(&value, window_.data() + (offset_ - window_begin_), sizeof value);
    offset_ += sizeof value;
    return value;
  }

  // Appends `n` bytes to `out`.
  Status append(uint64_t n, std::string_view field, std::string& out);

  // A u64 length and that many bytes, appended to `out`, with the length before them if
  // `keep_length`. The length must lie in [min_bytes, max_bytes].
  Status append_string(uint64_t min_bytes, uint64_t max_bytes, bool keep_length,
                       std::string_view field, std::string& out);

 private:
  static constexpr uint64_t kWindowBytes = 1 << 18;

  // Makes `n` (small) bytes at offset_ lie in the window.
  Status fill(uint64_t n, std::string_view field);

  const File& file_;
  const uint64_t limit_;
  uint64_t offset_ = 0;
  uint64_t window_begin_ = 0;
  std::vector<uint8_t> window_;
};

// `text` for an error message: quoted, what is not printable ASCII escaped, long text cut.
std::string shown(std::string_view text);

}  // namespace venturi
