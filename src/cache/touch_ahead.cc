#include "cache/touch_ahead.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>

#include "base/clock.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

namespace venturi {

namespace {

constexpr uint64_t kPiece = 2u << 20;  // a huge page: what is given at a time
constexpr uint64_t kSmallPage = 4096;
constexpr int kNice = 10;
// Low priority alone does not hold it back: a huge page is cleared in one piece, whoever waits for the core, and who slept
// long runs at once. So it rests, several times as long as a piece took.
constexpr double kRest = 8, kMostRestSeconds = 0.05;

void touch(uint8_t* begin, uint64_t bytes) {
  if (madvise(begin, bytes, MADV_POPULATE_WRITE) == 0) return;
  // Before Linux 5.14. Others may be writing here.
  for (uint64_t i = 0; i < bytes; i += kSmallPage) __atomic_fetch_or(begin + i, 0, __ATOMIC_RELAXED);
}

}  // namespace

TouchAhead::TouchAhead(std::vector<Region> regions, int groups)
    : regions_(std::move(regions)), touched_(regions_.size()), highest_(static_cast<size_t>(groups)) {
  for (auto& highest : highest_) highest = -1;
  thread_ = std::thread([this] { loop(); });
}

TouchAhead::~TouchAhead() {
  stopping_ = true;
  ++changes_;
  changes_.notify_one();
  thread_.join();
}

void TouchAhead::used(int group, int32_t page) {
  std::atomic<int32_t>& highest = highest_[static_cast<size_t>(group)];
  if (page <= highest.load(std::memory_order_relaxed)) return;
  highest.store(page, std::memory_order_relaxed);
  changes_.fetch_add(1, std::memory_order_release);
  changes_.notify_one();
}

// What is taken, to the end of its huge page, and one more; a second one while that fills, the last regions first, so that
// they do not ask all at once.
uint64_t TouchAhead::wanted(const Region& r) const {
  if (r.stride == 0) return r.bytes;
  const auto pages = static_cast<uint64_t>(highest_[static_cast<size_t>(r.group)].load(std::memory_order_relaxed) + 1);
  const uint64_t early = kPiece / regions_.size() * static_cast<uint64_t>(&r - regions_.data());
  return std::min(r.bytes, ((pages * r.stride + early) / kPiece + 2) * kPiece);
}

void TouchAhead::loop() {
  setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), kNice);  // refused: as before
  while (!stopping_) {
    const uint32_t seen = changes_.load(std::memory_order_acquire);
    bool done = true;
    for (size_t i = 0; i < regions_.size() && !stopping_; ++i) {
      const Region& r = regions_[i];
      const uint64_t want = wanted(r);
      if (touched_[i] >= want) continue;
      const uint64_t bytes = std::min(kPiece, r.bytes - touched_[i]);
      const bool urgent = want - touched_[i] > kPiece;
      const double begin = now_seconds();
      touch(r.begin + touched_[i], bytes);
      touched_[i] += bytes;
      touched_bytes_.fetch_add(bytes, std::memory_order_relaxed);
      done = false;
      if (!urgent)
        std::this_thread::sleep_for(std::chrono::duration<double>(std::min(kMostRestSeconds, kRest * (now_seconds() - begin))));
    }
    if (done && !stopping_) changes_.wait(seen, std::memory_order_acquire);
  }
}

}  // namespace venturi
