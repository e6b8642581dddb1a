#include "cache/page_ring.h"

#include <algorithm>
#include <cassert>

#include "base/clock.h"

namespace venturi {

PageRing::PageRing(DiskReader& disk, int file, Buffer memory, uint64_t cell_bytes)
    : disk_(disk),
      file_(file),
      memory_(std::move(memory)),
      cell_bytes_(cell_bytes),
      cells_(std::max<uint64_t>(1, memory_.size() / cell_bytes)) {
  assert(memory_.size() >= cell_bytes && cell_bytes % kDiskAlign == 0);
}

PageRing::~PageRing() { forget(); }

void PageRing::plan(std::vector<PageRange> ranges) {
  std::unique_lock lock(mutex_);
  assert(first_ == next_);
  // What was read ahead counts as far as it is what comes.
  uint64_t kept = next_;
  while (kept < issued_ && kept - next_ < ranges.size() &&
         cell(kept).range == ranges[kept - next_] && (cell(kept).reading || cell(kept).status))
    ++kept;
  drop(lock, kept);
  plan_ = std::move(ranges);
  base_ = next_;
  cyclic_ = true;
  fill();
}

void PageRing::forget() {
  std::unique_lock lock(mutex_);
  drop(lock, next_);
  plan_.clear();
}

Result<const uint8_t*> PageRing::acquire(const PageRange& range) {
  assert(range.bytes <= cell_bytes_);
  std::unique_lock lock(mutex_);
  const bool expected = issued_ > next_
                            ? cell(next_).range == range
                            : !plan_.empty() && (cyclic_ || next_ - base_ < plan_.size()) &&
                                  plan_[(next_ - base_) % plan_.size()] == range;
  if (!expected) {
    drop(lock, next_);
    const auto found = std::find(plan_.begin(), plan_.end(), range);
    if (found == plan_.end()) {
      plan_ = {range};
      base_ = next_;
      cyclic_ = false;
    } else {
      // Range number next_ is that of the plan: numbers go round with it.
      base_ = next_ - static_cast<uint64_t>(found - plan_.begin());
    }
  }
  fill();
  if (issued_ == next_)
    return error(Code::kInvalidArgument, "{} cells are all in use, and one more was asked for",
                 cells_.size());
  Cell& c = cell(next_);
  if (c.reading) {
    ++stalls_;
    const double begin = now_seconds();
    changed_.wait(lock, [&] { return !c.reading; });
    stall_seconds_ += now_seconds() - begin;
  }
  if (!c.status) {
    Status status = std::move(c.status);
    drop(lock, next_);
    return std::move(status).error();
  }
  return static_cast<const uint8_t*>(data(next_++));
}

void PageRing::release() {
  std::lock_guard lock(mutex_);
  assert(first_ < next_);
  ++first_;
  fill();
}

void PageRing::drop(std::unique_lock<std::mutex>& lock, uint64_t number) {
  for (uint64_t n = number; n < issued_; ++n) {
    Cell& c = cell(n);
    changed_.wait(lock, [&] { return !c.reading; });
    c.status = {};
  }
  issued_ = number;
}

void PageRing::fill() {
  while (!plan_.empty() && issued_ - first_ < cells_.size() &&
         (cyclic_ || issued_ - base_ < plan_.size())) {
    const uint64_t number = issued_++;
    Cell& c = cell(number);
    c.range = plan_[(number - base_) % plan_.size()];
    c.reading = true;
    disk_.submit({.file = file_,
                  .offset = c.range.offset,
                  .bytes = c.range.bytes,
                  .buffer = data(number),
                  .done = [this, &c](Status status) {
                    std::lock_guard lock(mutex_);
                    c.reading = false;
                    c.status = std::move(status);
                    changed_.notify_all();
                  }});
  }
}

}  // namespace venturi
