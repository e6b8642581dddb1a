// A few cells of memory that a disk fills ahead of a reader who says what comes next.
//
// The reader plans a list of byte ranges of one file and acquires them in that order; as cells are
// released the ring reads on, and past the end of the list begins it again, as a step is mostly
// followed by one like it. What was read ahead and then planned otherwise is dropped. A range
// acquired out of the order of the plan is found all the same, late. Threads: one caller; the
// disk's threads report. Ownership: the DiskReader must outlive the ring.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <vector>

#include "base/buffer.h"
#include "base/disk.h"

namespace venturi {

// Of a file; on blocks of kDiskAlign.
struct PageRange {
  uint64_t offset = 0, bytes = 0;
  bool operator==(const PageRange&) const = default;
};

class PageRing {
 public:
  // As many cells of `cell_bytes`, the largest range, as `memory` holds.
  PageRing(DiskReader& disk, int file, Buffer memory, uint64_t cell_bytes);
  ~PageRing();  // after what is being read

  int cells() const { return static_cast<int>(cells_.size()); }
  // These come next, in this order. Nothing may be acquired at the moment.
  void plan(std::vector<PageRange> ranges);
  // What the file holds is about to change: nothing that was read ahead counts, and nothing is
  // planned.
  void forget();
  // Waits for the range; its bytes stay until release(), up to cells() ranges at a time. Code::kIo
  // as the disk reported it; then nothing was acquired.
  Result<const uint8_t*> acquire(const PageRange& range);
  void release();  // of what was acquired first

  uint64_t stalls() const { return stalls_; }
  double stall_seconds() const { return stall_seconds_; }

 private:
  struct Cell {
    PageRange range;
    bool reading = false;
    Status status = {};
  };

  Cell& cell(uint64_t number) { return cells_[number % cells_.size()]; }
  uint8_t* data(uint64_t number) { return memory_.data() + number % cells_.size() * cell_bytes_; }
  // With the lock: takes back what was read ahead from `number` on.
  void drop(std::unique_lock<std::mutex>& lock, uint64_t number);
  void fill();

  DiskReader& disk_;
  const int file_;
  Buffer memory_;
  const uint64_t cell_bytes_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Cell> cells_;  // range number n is in cell n mod cells
  std::vector<PageRange> plan_;
  bool cyclic_ = false;  // the plan begins again after its end
  // Range numbers: [first_, next_) are acquired, [next_, issued_) read ahead. Range number n is the
  // plan's (n - base_)th.
  uint64_t first_ = 0, next_ = 0, issued_ = 0, base_ = 0;
  uint64_t stalls_ = 0;
  double stall_seconds_ = 0;
};

}  // namespace venturi
