// Deep reads past the page cache: many requests in flight, straight into memory of ours.
//
// What reads model or state while it computes reads through here. Requests go out through io_uring,
// or, where that is refused, through as many threads as there may be requests in flight; with
// O_DIRECT, or, where the file system refuses that, through the page cache, from which what was read
// is dropped at once. Units: bytes. Direct reads move whole blocks of kDiskAlign, so a buffer has
// room for the blocks that cover what is asked for (disk_cover), begins on kDiskAlign, and holds the
// first byte asked for at offset % kDiskAlign.
// Threads: every member may be called from any thread. Ownership: a buffer stays its owner's and must
// outlive its read. Failure: a read that the disk refuses, or that runs into the end of the file, is
// Code::kIo with file and offset, and touches no other read.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/result.h"

namespace venturi {

inline constexpr uint64_t kDiskAlign = 4096;

// Bytes of the blocks that cover [offset, offset + bytes).
constexpr uint64_t disk_cover(uint64_t offset, uint64_t bytes, uint64_t align = kDiskAlign) {
  return (offset + bytes + align - 1) / align * align - offset / align * align;
}

struct DiskOptions {
  enum class Backend { kAuto, kRing, kThreads };  // kAuto: io_uring, threads where it is refused
  Backend backend = Backend::kAuto;
  bool direct = true;                  // O_DIRECT where the file system has it
  uint64_t request_bytes = 1u << 20;   // a read is cut into requests of this size
  int depth = 16;                      // requests in flight
  uint64_t align = kDiskAlign;         // of what is moved, in place of kDiskAlign below: 512 where small
                                       // reads count and the disk takes them (small_block_size)
};

struct DiskCounters {
  uint64_t bytes = 0;     // moved by the disk or the page cache, whole blocks
  uint64_t requests = 0;
};

struct DiskRead {
  int file = 0;             // as add() numbered it
  uint64_t offset = 0, bytes = 0;
  uint8_t* buffer = nullptr;  // on kDiskAlign, room for disk_cover(offset, bytes)
  // Called once, from a thread of the reader: brief, and free to submit more.
  std::function<void(Status)> done;
};

class DiskReader {
 public:
  // Code::kIo when Backend::kRing is asked for and refused.
  static Result<std::unique_ptr<DiskReader>> create(const DiskOptions& options = {});
  virtual ~DiskReader();  // after what is in flight has ended

  // Opens the file behind `file` a second time, for direct reads. Its number for DiskRead::file.
  Result<int> add(const File& file);

  void submit(DiskRead read);
  // Many at once, in this order, for fewer system calls.
  void submit(std::vector<DiskRead> reads);
  // Submits and waits.
  Status read(int file, uint64_t offset, uint64_t bytes, uint8_t* buffer);

  DiskCounters counters() const;
  virtual std::string_view backend() const = 0;  // "io_uring" or "threads"
  bool direct(int file) const;                   // whether reads of it still go past the page cache

 protected:
  struct Core;
  explicit DiskReader(std::unique_ptr<Core> core);
  // There are requests waiting to go out. Called without a lock.
  virtual void wake() = 0;
  void enqueue(DiskRead read);

  std::unique_ptr<Core> core_;
};

// The smallest unit of direct reads of the file: 512 where its disk takes that, else kDiskAlign.
uint64_t small_block_size(const File& file);

}  // namespace venturi
