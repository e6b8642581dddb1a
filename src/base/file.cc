#include "base/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

namespace venturi {

Result<File> File::open(const std::string& path) {
  File file;
  // A pipe would wait for its writer.
  file.fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file.fd_ < 0)
    return error(errno == ENOENT ? Code::kNotFound : Code::kIo, "cannot open {}: {}", path, std::strerror(errno));
  struct stat info;
  if (fstat(file.fd_, &info) != 0)
    return error(Code::kIo, "cannot stat {}: {}", path, std::strerror(errno));
  if (S_ISDIR(info.st_mode)) return error(Code::kInvalidArgument, "{} is a directory, not a file", path);
  if (S_ISFIFO(info.st_mode) || S_ISSOCK(info.st_mode))
    return error(Code::kIo, "{} is no regular file: it is read at any place, which a pipe cannot do", path);
  file.size_ = static_cast<uint64_t>(info.st_size);
  file.path_ = path;
  return file;
}

File::File(File&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), size_(other.size_), path_(std::move(other.path_)) {}

File& File::operator=(File&& other) noexcept {
  if (this != &other) {
    if (fd_ >= 0) ::close(fd_);
    fd_ = std::exchange(other.fd_, -1);
    size_ = other.size_;
    path_ = std::move(other.path_);
  }
  return *this;
}

File::~File() {
  if (fd_ >= 0) ::close(fd_);
}

Status File::read_exact(uint64_t offset, std::span<uint8_t> out) const {
  size_t done = 0;
  while (done < out.size()) {
    // One system call moves at most 0x7ffff000 bytes; ask for less than that.
    const size_t want = std::min<size_t>(out.size() - done, 1u << 30);
    const ssize_t got = ::pread(fd_, out.data() + done, want, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0)
      return error(Code::kIo, "{}: reading {} bytes at offset {} failed: {}", path_, want, offset + done,
                   std::strerror(errno));
    if (got == 0)
      return error(Code::kIo, "{}: the file ends at {}, but {} more bytes are needed there; was it truncated?",
                   path_, offset + done, out.size() - done);
    done += static_cast<size_t>(got);
  }
  return {};
}

Result<std::string> read_text_file(const std::string& path, uint64_t max_bytes) {
  std::string text;
  const int fd = path == "-" ? ::dup(0) : ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    return error(errno == ENOENT ? Code::kNotFound : Code::kIo, "cannot open {}: {}", path, std::strerror(errno));
  struct stat info;
  if (fstat(fd, &info) == 0 && S_ISREG(info.st_mode)) {
    const uint64_t left = static_cast<uint64_t>(std::max<off_t>(0, info.st_size - std::max<off_t>(0, ::lseek(fd, 0, SEEK_CUR))));
    if (left > max_bytes) {
      ::close(fd);
      return error(Code::kInvalidArgument, "{} is larger than {} bytes", path, max_bytes);
    }
    text.reserve(left);
  }
  // Read to the end rather than to the size, so that pipes work.
  char chunk[1 << 16];
  for (;;) {
    const ssize_t got = ::read(fd, chunk, sizeof chunk);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      const int saved = errno;
      ::close(fd);
      return error(Code::kIo, "cannot read {}: {}", path, std::strerror(saved));
    }
    if (got == 0) break;
    text.append(chunk, static_cast<size_t>(got));
    if (text.size() > max_bytes) {
      ::close(fd);
      return error(Code::kInvalidArgument, "{} is larger than {} bytes", path, max_bytes);
    }
  }
  ::close(fd);
  return text;
}

namespace {

std::string folder_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash + 1);
}

std::string descriptor_path(int fd) { return fmt::format("/proc/self/fd/{}", fd); }

}  // namespace

Result<AtomicFile> AtomicFile::create(const std::string& path) {
  AtomicFile file;
  file.path_ = path;
  file.temporary_ = fmt::format("{}.tmp-{}", path, ::getpid());
  struct stat info;
  if (::stat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode))
    return error(Code::kInvalidArgument, "cannot write {}: it is there and is no regular file", path);
  file.fd_ = ::open(folder_of(path).c_str(), O_TMPFILE | O_WRONLY | O_CLOEXEC, 0644);
  // Its way into the folder later is through /proc.
  if (file.fd_ >= 0 && ::access(descriptor_path(file.fd_).c_str(), F_OK) == 0) {
    file.nameless_ = true;
    return file;
  }
  if (file.fd_ >= 0) ::close(file.fd_);
  file.fd_ = ::open(file.temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (file.fd_ < 0)
    return error(Code::kIo, "cannot write {}: {}", path, std::strerror(errno));
  return file;
}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      nameless_(other.nameless_),
      size_(other.size_),
      path_(std::move(other.path_)),
      temporary_(std::move(other.temporary_)) {}

AtomicFile::~AtomicFile() {
  if (fd_ < 0) return;
  ::close(fd_);
  if (!nameless_) ::unlink(temporary_.c_str());
}

Status AtomicFile::reserve(uint64_t bytes) {
  if (bytes == 0 || ::fallocate(fd_, FALLOC_FL_KEEP_SIZE, 0, static_cast<off_t>(bytes)) == 0) return {};
  if (errno != ENOSPC && errno != EDQUOT && errno != EFBIG) return {};  // not every file system can
  return error(Code::kIo, "there is no room for the {} bytes of {}: {}", bytes, path_, std::strerror(errno));
}

Status AtomicFile::write_at(uint64_t offset, std::span<const uint8_t> bytes) {
  size_t done = 0;
  while (done < bytes.size()) {
    const size_t want = std::min<size_t>(bytes.size() - done, 1u << 30);
    const ssize_t put = ::pwrite(fd_, bytes.data() + done, want, static_cast<off_t>(offset + done));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0)
      return error(Code::kIo, "writing {} at offset {} failed: {}", path_, offset + done, std::strerror(errno));
    done += static_cast<size_t>(put);
  }
  size_ = std::max(size_, offset + bytes.size());
  return {};
}

Status AtomicFile::append(std::span<const uint8_t> bytes) { return write_at(size_, bytes); }

Status AtomicFile::append(std::string_view text) {
  return append(std::span(reinterpret_cast<const uint8_t*>(text.data()), text.size()));
}

Status AtomicFile::sync() {
  if (::fsync(fd_) == 0) return {};
  return error(Code::kIo, "syncing {} failed: {}", path_, std::strerror(errno));
}

Status AtomicFile::publish() {
  if (nameless_) {
    const auto link = [&] {
      return ::linkat(AT_FDCWD, descriptor_path(fd_).c_str(), AT_FDCWD, temporary_.c_str(), AT_SYMLINK_FOLLOW);
    };
    // The name may be a killed process's.
    if (link() != 0 && (errno != EEXIST || ::unlink(temporary_.c_str()) != 0 || link() != 0))
      return error(Code::kIo, "cannot write {}: {}", path_, std::strerror(errno));
    nameless_ = false;
  }
  if (::rename(temporary_.c_str(), path_.c_str()) != 0)
    return error(Code::kIo, "cannot write {}: {}", path_, std::strerror(errno));
  ::close(std::exchange(fd_, -1));
  // The new name is durable only once its directory is.
  const int directory = ::open(folder_of(path_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory >= 0) {
    ::fsync(directory);
    ::close(directory);
  }
  return {};
}

Status AtomicFile::commit() { return commit_all({this, 1}); }

Status commit_all(std::span<AtomicFile> files) {
  for (AtomicFile& file : files) TRY(file.sync());
  for (AtomicFile& file : files) TRY(file.publish());
  return {};
}

}  // namespace venturi
