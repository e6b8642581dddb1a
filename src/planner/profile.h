// The profile of a machine: what `venturi probe` measured, as a value and as a file.
//
// Every figure is a spread of repetitions: the median is what predictions use, low and high say how far
// the machine moved meanwhile. A profile is stored as JSON in the user's cache folder, written beside and
// renamed; one that is read is checked field by field, and one of another version is refused.
// Units: bytes, seconds, multiply-adds.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "planner/fields.h"

namespace venturi {

struct Spread {
  double median = 0, low = 0, high = 0;  // of the repetitions
  double relative() const { return median > 0 ? (high - low) / median : 0; }
};
Spread spread_of(std::vector<double> values);

struct MemoryRate {
  int threads = 0;
  Spread bytes_per_second;
};

// How fast the matmul op itself goes: weight values a second, each multiplied with `rows` rows of input,
// from matrices that lie in memory interleaved (packed) or as in the file, in which case they are
// interleaved on the way, as streamed ones are.
struct KernelRate {
  std::string codec;
  bool packed = true;
  int64_t rows = 1;
  Spread weights_per_second;
};

struct DiskRate {
  bool sequential = true, direct = true;
  uint64_t request_bytes = 0;
  int depth = 0;
  Spread bytes_per_second;
  uint64_t in_flight_bytes = 0;  // at most at once, as a window would have it; 0: the depth full of requests
};
struct DiskProfile {
  std::string path;       // of the file that was read
  std::string backend;    // "io_uring" or "threads"
  std::vector<DiskRate> rates;
  std::string device = {};  // that it lies on (device_of); empty: not noted
};

struct MachineProfile {
  static constexpr int kVersion = 1;
  static constexpr std::string_view kFormat = "venturi machine profile";

  int64_t taken = 0;  // seconds since 1970
  bool brief = false;  // measured in a hurry
  int threads = 0;
  std::string instruction_set = {};
  Spread read_bytes_per_second = {}, int8_macs_per_second = {}, f32_macs_per_second = {};  // all threads
  double region_seconds = 0;  // what an op costs that has next to nothing to do
  std::vector<MemoryRate> memory = {};
  std::vector<KernelRate> kernels = {};
  DiskProfile disk = {};  // no rates: not measured

  // The largest relative spread, and of what.
  double noise(std::string* of = nullptr) const;
  bool knows(std::string_view codec) const;
  // Weight values a second of a codec with `rows` rows of input: between the points measured, the time is
  // taken as linear in rows. A codec that was not measured goes at 70 % of the bounds.
  double weights_per_second(std::string_view codec, double bits_per_weight, bool int8_input, bool packed,
                            double rows) const;
  // Direct and sequential, with requests of the size and depth nearest to these; 0 if not measured. Where a window lets no
  // more than `in_flight` bytes be asked for at once, as fast as what was measured with so many, small requests too.
  double disk_bytes_per_second(uint64_t request_bytes, int depth, uint64_t in_flight = UINT64_MAX) const;
};

Json profile_json(const MachineProfile& profile);
Result<MachineProfile> profile_from(const Fields& fields);  // without "format" and "version"
// `path` is for errors.
Result<MachineProfile> parse_profile(std::string_view text, std::string_view path);

// The device that a file lies on, or its folder where it is gone, as the kernel numbers it: "8:1". Empty where neither is there.
std::string device_of(const std::string& path);

// Where a profile is kept: $XDG_CACHE_HOME/venturi or ~/.cache/venturi, "" when neither is known.
std::string stored_profile_path();
Result<MachineProfile> read_profile(const std::string& path);
// Makes the folder, writes beside and renames.
Status write_profile(const std::string& path, const MachineProfile& profile);

}  // namespace venturi
