// A file of our own without a name: gone from its folder at once, and from the disk when closed.
//
// For what does not fit memory. Written past the page cache (O_DIRECT), or, where the file system
// refuses that, through it, from which what was written is dropped when it has reached the disk.
// Read through DiskReader. Units: bytes. Threads: write() from one thread at a time. Failure:
// Code::kIo with file and offset; what was there before may then be gone.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "base/file.h"

namespace venturi {

class ScratchFile {
 public:
  // `place`: a folder, in which the file is made; the name of a file that does not exist yet; or a
  // device. Empty: $TMPDIR, else the user's cache folder.
  static Result<ScratchFile> create(const std::string& place = {});
  ScratchFile(ScratchFile&& other) noexcept;
  ScratchFile& operator=(ScratchFile&&) = delete;
  ~ScratchFile();

  // The pieces one after another from `offset` on. Offset, sizes and addresses are multiples of
  // 4096.
  Status write(uint64_t offset, std::span<const std::span<const uint8_t>> pieces);

  const File& file() const { return file_; }                // for reading
  const std::string& path() const { return file_.path(); }  // where it was made
  uint64_t room() const;  // bytes that its disk has left; UINT64_MAX where that has no meaning
  bool direct() const { return direct_; }

 private:
  ScratchFile() = default;
  int fd_ = -1;
  bool direct_ = false;
  File file_;
};

}  // namespace venturi
