// A window of memory that a disk fills ahead of a reader who goes round in a known order.
//
// Sources are byte ranges of files. The ring reads them in the order of the cycle, over and over, as
// far ahead as the window holds; acquire() hands out the next one and release() makes room for more.
// A reader who asks for another source than the next loses what lies before it in the window; one who
// asks for something that is not there starts the ring anew from it. So a wrong order costs time, never
// a byte. Space is taken and given back in order, around the end of the memory.
// Threads: acquire, release and expect from one thread; the disk's threads report.
// Ownership: the DiskReader must be destroyed before the ring.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <span>
#include <vector>

#include "base/buffer.h"
#include "base/disk.h"

namespace venturi {

class StreamRing {
 public:
  struct Source {
    int file = 0;
    uint64_t offset = 0, bytes = 0;
    uint64_t cover() const { return disk_cover(offset, bytes); }
  };
  struct Slot {
    const uint8_t* data;  // of the source's first byte
    uint64_t ticket;
  };

  // `cycle` may be empty: then only what is expected is read ahead.
  StreamRing(DiskReader& disk, Buffer memory, std::vector<Source> sources, std::vector<int32_t> cycle);

  // Waits for the source. Code::kIo as the disk reported it; asking again reads again.
  // Code::kInvalidArgument when slots in use leave no room for it.
  Result<Slot> acquire(int32_t source);
  void release(uint64_t ticket);
  // These come next, in this order, before the cycle goes on; forgets what was expected before.
  void expect(std::span<const int32_t> sources);

  uint64_t stalls() const { return stalls_; }
  double stall_seconds() const { return stall_seconds_; }

 private:
  struct Entry {
    int32_t source;
    int64_t place;        // in the cycle; -1: it was expected
    uint64_t begin, end;  // in memory
    bool reading = true, leased = false, dropped = false;
    Status status = {};
  };

  Entry* find(int32_t source);
  void restart(int32_t source);
  void fill();
  bool room(uint64_t bytes, uint64_t& begin) const;
  void reclaim();
  void arrived(uint64_t ticket, Status status);

  DiskReader& disk_;
  Buffer memory_;
  const std::vector<Source> sources_;
  const std::vector<int32_t> cycle_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Entry> entries_;   // in order of memory and of reading
  uint64_t first_ticket_ = 0;   // of entries_.front()
  std::deque<int32_t> expected_;
  size_t cursor_ = 0;           // in the cycle: what is read next
  size_t last_ = 0;             // in the cycle: after what was acquired last
  uint64_t stalls_ = 0;
  double stall_seconds_ = 0;
};

}  // namespace venturi
