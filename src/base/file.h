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

// A file that is seen whole or not at all: written without a name where the file system allows that, else
// under a temporary one beside the target; commit() syncs and renames. A process killed before that leaves
// the old file; the destructor removes what was not committed.
class AtomicFile {
 public:
  static Result<AtomicFile> create(const std::string& path);
  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&&) = delete;
  ~AtomicFile();

  // Takes the room for so many bytes, so that a full disk is known before the work and not after it. Fails
  // only for want of room.
  Status reserve(uint64_t bytes);
  Status append(std::span<const uint8_t> bytes);
  Status append(std::string_view text);
  Status write_at(uint64_t offset, std::span<const uint8_t> bytes);
  uint64_t size() const { return size_; }
  const std::string& path() const { return path_; }
  Status commit();

 private:
  friend Status commit_all(std::span<AtomicFile> files);
  AtomicFile() = default;
  Status sync();
  Status publish();
  int fd_ = -1;
  bool nameless_ = false;
  uint64_t size_ = 0;
  std::string path_, temporary_;
};

// Several files that belong together: all are synced before the first is renamed, and they are renamed in
// their order.
Status commit_all(std::span<AtomicFile> files);

}  // namespace venturi
