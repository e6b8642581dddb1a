#include "base/scratch_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <vector>

namespace venturi {

namespace {

constexpr uint64_t kBlock = 4096;
constexpr size_t kPiecesPerWrite = 256;

std::string default_folder() {
  if (const char* folder = std::getenv("TMPDIR"); folder && *folder) return folder;
  std::string cache;
  if (const char* folder = std::getenv("XDG_CACHE_HOME"); folder && *folder) {
    cache = folder;
  } else if (const char* home = std::getenv("HOME"); home && *home) {
    cache = std::string(home) + "/.cache";
  } else {
    return "/var/tmp";
  }
  cache += "/venturi";
  std::error_code ignored;
  std::filesystem::create_directories(cache, ignored);
  return cache;
}

}  // namespace

Result<ScratchFile> ScratchFile::create(const std::string& place) {
  ScratchFile scratch;
  std::string path = place.empty() ? default_folder() : place;
  std::error_code ignored;
  const auto kind = std::filesystem::status(path, ignored).type();
  bool named = true;
  if (kind == std::filesystem::file_type::directory) {
    path += "/venturi-state-XXXXXX";
    scratch.fd_ = ::mkostemp(path.data(), O_CLOEXEC);
  } else if (kind == std::filesystem::file_type::not_found) {
    scratch.fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  } else if (kind == std::filesystem::file_type::block ||
             kind == std::filesystem::file_type::character) {
    scratch.fd_ = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
    named = false;
  } else {
    return error(Code::kInvalidArgument,
                 "{} exists and would be overwritten; name a folder or a new file", path);
  }
  if (scratch.fd_ < 0)
    return error(Code::kIo, "cannot make the file {}: {}", path, std::strerror(errno));
  auto file = File::open(path);
  if (named) ::unlink(path.c_str());
  scratch.file_ = TRY(std::move(file));
  scratch.direct_ = fcntl(scratch.fd_, F_SETFL, O_DIRECT) == 0;
  return scratch;
}

ScratchFile::ScratchFile(ScratchFile&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), direct_(other.direct_), file_(std::move(other.file_)) {}

ScratchFile::~ScratchFile() {
  if (fd_ >= 0) ::close(fd_);
}

Status ScratchFile::write(uint64_t offset, std::span<const std::span<const uint8_t>> pieces) {
  uint64_t end = offset;
  for (const auto& piece : pieces) end += piece.size();
  const uint64_t first = offset;
  std::vector<iovec> parts;
  while (offset < end) {
    // What is left, from the first byte not yet written on.
    parts.clear();
    uint64_t at = first;
    for (const auto& piece : pieces) {
      const uint64_t skip = std::min<uint64_t>(piece.size(), offset > at ? offset - at : 0);
      at += piece.size();
      if (skip < piece.size() && parts.size() < kPiecesPerWrite)
        parts.push_back({const_cast<uint8_t*>(piece.data()) + skip, piece.size() - skip});
    }
    const ssize_t put =
        ::pwritev(fd_, parts.data(), static_cast<int>(parts.size()), static_cast<off_t>(offset));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0 && errno == EINVAL && direct_) {
      direct_ = false;
      if (fcntl(fd_, F_SETFL, 0) == 0) continue;
    }
    // Direct writes go on at a whole block.
    const uint64_t moved = put > 0 ? (direct_ ? static_cast<uint64_t>(put) / kBlock * kBlock
                                              : static_cast<uint64_t>(put))
                                   : 0;
    if (moved == 0)
      return error(Code::kIo, "{}: writing {} bytes at offset {} failed: {}", path(), end - offset,
                   offset, put < 0 ? std::strerror(errno) : "nothing was written");
    offset += moved;
  }
  if (!direct_ && end > first) {
    const auto begin = static_cast<off_t>(first), bytes = static_cast<off_t>(end - first);
    // Only what the disk has can be dropped. A device without a cache refuses both, and needs
    // neither.
    sync_file_range(
        fd_, begin, bytes,
        SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
    posix_fadvise(fd_, begin, bytes, POSIX_FADV_DONTNEED);
  }
  return {};
}

uint64_t ScratchFile::room() const {
  struct stat info;
  struct statvfs disk;
  if (fstat(fd_, &info) != 0 || !S_ISREG(info.st_mode) || fstatvfs(fd_, &disk) != 0)
    return UINT64_MAX;
  return static_cast<uint64_t>(disk.f_bavail) * disk.f_frsize;
}

}  // namespace venturi
