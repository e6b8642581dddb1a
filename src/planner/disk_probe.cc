#include "planner/disk_probe.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <vector>

#include "base/buffer.h"
#include "base/checked.h"
#include "base/clock.h"
#include "base/random.h"

namespace venturi {

namespace {

constexpr double kSliceSeconds = 0.1;
constexpr uint64_t kRandomRequest = 64u << 10;

// The ranges cut into pieces.
std::vector<DiskRange> pieces_of(std::span<const DiskRange> ranges, uint64_t piece_bytes) {
  std::vector<DiskRange> pieces;
  for (const DiskRange& range : ranges)
    for (uint64_t at = 0; at < range.bytes; at += piece_bytes)
      pieces.push_back({range.file, range.offset + at, std::min(piece_bytes, range.bytes - at)});
  return pieces;
}

// Keeps so many pieces in flight until the time is up, and notes when each arrived.
class Reading {
 public:
  Reading(DiskReader& disk, std::vector<DiskRange> pieces, const DiskPattern& pattern, Buffer memory, int slots)
      : disk_(disk), pieces_(std::move(pieces)), pattern_(pattern), memory_(std::move(memory)), slots_(slots) {}

  Result<Spread> run() {
    begin_ = now_seconds();
    std::unique_lock lock(mutex_);
    for (int slot = 0; slot < slots_; ++slot) {
      ++in_flight_;
      lock.unlock();
      submit(slot);
      lock.lock();
    }
    over_.wait(lock, [&] { return in_flight_ == 0; });
    if (!status_) return std::move(status_).error();
    return slices();
  }

 private:
  void submit(int slot) {
    DiskRange piece;
    {
      std::lock_guard lock(mutex_);
      const uint64_t at = next_++;
      piece = pieces_[(pattern_.sequential ? at : random_bits(1, 2, at)) % pieces_.size()];
    }
    disk_.submit({.file = piece.file, .offset = piece.offset, .bytes = piece.bytes,
                  .buffer = memory_.data() + static_cast<uint64_t>(slot) * disk_cover(kDiskAlign - 1, pattern_.piece_bytes),
                  .done = [this, slot, bytes = piece.bytes](Status status) { arrived(slot, bytes, std::move(status)); }});
  }

  void arrived(int slot, uint64_t bytes, Status status) {
    {
      std::lock_guard lock(mutex_);
      const double at = now_seconds() - begin_;
      arrivals_.emplace_back(at, bytes);
      if (!status && status_) status_ = std::move(status);
      const bool ends = !status_ || at >= pattern_.seconds ||
                        static_cast<double>(next_) >= pattern_.most_passes * static_cast<double>(pieces_.size());
      if (ends) {
        if (--in_flight_ == 0) over_.notify_all();
        return;
      }
    }
    submit(slot);
  }

  // The median is of the whole; low and high of slices long enough to hold many arrivals.
  Spread slices() const {
    double end = arrivals_.back().first, total = 0;
    for (const auto& [at, bytes] : arrivals_) total += static_cast<double>(bytes);
    const int n = std::clamp(static_cast<int>(end / kSliceSeconds), 1, 10);
    std::vector<double> rates(static_cast<size_t>(n));
    for (const auto& [at, bytes] : arrivals_)
      rates[std::min(n - 1, static_cast<int>(at / end * n))] += static_cast<double>(bytes) * n / end;
    Spread spread = spread_of(rates);
    spread.median = std::clamp(total / end, spread.low, spread.high);
    return spread;
  }

  DiskReader& disk_;
  const std::vector<DiskRange> pieces_;
  const DiskPattern& pattern_;
  Buffer memory_;
  const int slots_;
  std::mutex mutex_;
  std::condition_variable over_;
  double begin_ = 0;
  uint64_t next_ = 0;
  int in_flight_ = 0;
  Status status_;
  std::vector<std::pair<double, uint64_t>> arrivals_;
};

}  // namespace

Result<DiskRate> probe_disk(Ledger& ledger, std::span<const File> files, std::span<const DiskRange> ranges,
                            const DiskPattern& pattern, std::string* backend) {
  std::vector<DiskRange> pieces = pieces_of(ranges, pattern.piece_bytes);
  if (pieces.empty()) return error(Code::kInvalidArgument, "there is nothing to read to measure the disk with");
  uint64_t wanted = std::max<uint64_t>(2, 2 * static_cast<uint64_t>(pattern.depth) * pattern.request_bytes / pattern.piece_bytes);
  if (pattern.in_flight_bytes > 0) {
    uint64_t bytes = 0;
    for (const DiskRange& piece : pieces) bytes += disk_cover(piece.offset, piece.bytes);
    wanted = std::min(wanted, std::max<uint64_t>(1, pattern.in_flight_bytes * pieces.size() / bytes));
  }
  const int slots = static_cast<int>(wanted);
  Buffer memory = TRY(Buffer::allocate(
      ledger, static_cast<uint64_t>(slots) * disk_cover(kDiskAlign - 1, pattern.piece_bytes), "disk probe"));
  auto disk = TRY(DiskReader::create({.direct = pattern.direct, .request_bytes = pattern.request_bytes, .depth = pattern.depth}));
  for (const File& file : files) TRY(disk->add(file));
  if (backend) *backend = disk->backend();
  Reading reading(*disk, std::move(pieces), pattern, std::move(memory), slots);
  const Spread rate = TRY(reading.run());
  return DiskRate{pattern.sequential, pattern.direct, pattern.request_bytes, pattern.depth, rate, pattern.in_flight_bytes};
}

Result<DiskProfile> probe_disk_patterns(Ledger& ledger, const std::string& path, double seconds) {
  std::vector<File> files;
  files.push_back(TRY(File::open(path)));
  const DiskRange all{0, 0, files[0].size()};
  DiskProfile profile{.path = path, .backend = {}, .rates = {}, .device = device_of(path)};
  for (const bool direct : {true, false})
    for (const bool sequential : {true, false})
      for (const int depth : {1, 4, 16}) {
        DiskPattern pattern{.sequential = sequential, .direct = direct, .depth = depth, .seconds = seconds};
        if (!sequential) pattern.request_bytes = pattern.piece_bytes = kRandomRequest;
        if (sequential && direct && depth == DiskPattern().depth) pattern.seconds *= 5;
        profile.rates.push_back(TRY(probe_disk(ledger, files, {&all, 1}, pattern, &profile.backend)));
      }
  return profile;
}

Result<ProbeFile> ProbeFile::create(const std::string& folder, uint64_t bytes) {
  ProbeFile probe;
  probe.path_ = fmt::format("{}/venturi-probe-{}", folder, ::getpid());
  AtomicFile file = TRY(AtomicFile::create(probe.path_));
  std::vector<uint64_t> block(1u << 17);
  for (uint64_t at = 0; at < bytes; at += block.size() * 8) {
    for (size_t i = 0; i < block.size(); ++i) block[i] = random_bits(at, 3, i);
    TRY(file.append({reinterpret_cast<const uint8_t*>(block.data()), std::min<uint64_t>(block.size() * 8, bytes - at)}));
  }
  TRY(file.commit());
  // What was written is in the page cache; reads through it should begin without.
  if (const int fd = ::open(probe.path_.c_str(), O_RDONLY | O_CLOEXEC); fd >= 0) {
    (void)::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    ::close(fd);
  }
  return probe;
}

ProbeFile::~ProbeFile() {
  if (!path_.empty()) ::unlink(path_.c_str());
}

}  // namespace venturi
