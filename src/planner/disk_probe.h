// How fast the disk gives bytes, in the patterns in which this program asks for them.
//
// Reads go through base/disk.h, as those of streamed weights do: pieces cut into requests, so many in
// flight, past the page cache or through it. A pattern is read for a while, and each slice of the time is
// a repetition. A disk behind a cache that is not ours (a host's, a controller's) gives what it has read
// lately faster than the rest: what is to be read over and over should be probed where it lies, and long
// enough to go round.
#pragma once

#include <span>

#include "base/disk.h"
#include "base/ledger.h"
#include "planner/profile.h"

namespace venturi {

struct DiskRange {
  int file = 0;  // index into the files
  uint64_t offset = 0, bytes = 0;
};

struct DiskPattern {
  bool sequential = true, direct = true;
  uint64_t request_bytes = 1u << 20;
  int depth = 16;
  uint64_t piece_bytes = 4u << 20;  // asked for at a time; the pieces in flight cover the depth twice
  double seconds = 1;
  uint64_t in_flight_bytes = 0;     // not more at once, whatever the depth; 0: as the depth says
  double most_passes = 1e9;         // ends earlier, when the ranges have been read so often
};

// Reads the ranges in order, round and round, or pieces of them in any order. Draws the memory for what is
// in flight.
Result<DiskRate> probe_disk(Ledger& ledger, std::span<const File> files, std::span<const DiskRange> ranges,
                            const DiskPattern& pattern, std::string* backend = nullptr);

// Sequential and random, direct and buffered, by depth: `seconds` for each, and more for what streaming
// uses.
Result<DiskProfile> probe_disk_patterns(Ledger& ledger, const std::string& path, double seconds = 0.4);

// A file of random bytes for the above, removed when this ends.
class ProbeFile {
 public:
  static Result<ProbeFile> create(const std::string& folder, uint64_t bytes);
  ProbeFile(ProbeFile&& other) noexcept : path_(std::exchange(other.path_, "")) {}
  ~ProbeFile();
  const std::string& path() const { return path_; }

 private:
  ProbeFile() = default;
  std::string path_;
};

}  // namespace venturi
