// Files: positioned reads that never read past the end, and writes that leave the old file or the new one.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

namespace venturi {

// A file opened for reading. Threads: read_exact may be called from any thread.
class File {
 public:
  File() = default;
  static Result<File> open(const std::string& path);
  File(File&& other) noexcept;
  File& operator=(File&& other) noexcept;
  ~File();

  // Fills `out` from `offset`. Code::kIo naming the file and offset when the bytes are not there
  // (a file truncated after it was opened) or the disk fails.
  Status read_exact(uint64_t offset, std::span<uint8_t> out) const;

  uint64_t size() const { return size_; }
  const std::string& path() const { return path_; }
  int fd() const { return fd_; }

 private:
  int fd_ = -1;
  uint64_t size_ = 0;
  std::string path_;
};

// The whole file as a string. Code::kInvalidArgument when it is larger than `max_bytes`.
Result<std::string> read_text_file(const std::string& path, uint64_t max_bytes = 1ull << 32);

// Written beside the target under a temporary name; commit() syncs and renames. A process killed
// before that leaves the old file; the destructor removes what was not committed.
class AtomicFile {
 public:
  static Result<AtomicFile> create(const std::string& path);
  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&&) = delete;
  ~AtomicFile();

  Status append(std::span<const uint8_t> bytes);
  Status append(std::string_view text);
  Status write_at(uint64_t offset, std::span<const uint8_t> bytes);
  uint64_t size() const { return size_; }
  Status commit();

 private:
  AtomicFile() = default;
  int fd_ = -1;
  uint64_t size_ = 0;
  std::string path_, temporary_;
};

}  // namespace venturi
