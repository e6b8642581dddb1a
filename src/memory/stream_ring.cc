#include "memory/stream_ring.h"

#include <algorithm>

#include "base/clock.h"

namespace venturi {

StreamRing::StreamRing(DiskReader& disk, Buffer memory, std::vector<Source> sources, std::vector<int32_t> cycle)
    : disk_(disk), memory_(std::move(memory)), sources_(std::move(sources)), cycle_(std::move(cycle)) {}

Result<StreamRing::Slot> StreamRing::acquire(int32_t source) {
  std::unique_lock lock(mutex_);
  if (!find(source)) restart(source);
  double waiting_since = 0;
  for (;;) {
    fill();
    Entry* entry = find(source);
    if (entry && !entry->reading) {
      if (waiting_since > 0) stall_seconds_ += now_seconds() - waiting_since;
      if (entry->place >= 0) last_ = static_cast<size_t>(entry->place) + 1;
      if (!entry->status) {
        Status status = std::move(entry->status);
        entry->dropped = true;
        reclaim();
        return std::move(status).error();
      }
      entry->leased = true;
      const uint64_t index = static_cast<uint64_t>(std::find_if(entries_.begin(), entries_.end(), [&](const Entry& e) {
                                                     return &e == entry;
                                                   }) - entries_.begin());
      return Slot{memory_.data() + entry->begin + sources_[source].offset % kDiskAlign, first_ticket_ + index};
    }
    if (!entry && std::none_of(entries_.begin(), entries_.end(), [](const Entry& e) { return e.reading; }))
      return error(Code::kInvalidArgument, "a window of {} has no room for {} beside what is in use",
                   format_bytes(memory_.size()), format_bytes(sources_[source].cover()));
    if (waiting_since == 0) {
      waiting_since = now_seconds();
      ++stalls_;
    }
    changed_.wait(lock);
  }
}

void StreamRing::release(uint64_t ticket) {
  std::lock_guard lock(mutex_);
  Entry& entry = entries_[ticket - first_ticket_];
  entry.leased = false;
  entry.dropped = true;
  reclaim();
  fill();
}

void StreamRing::expect(std::span<const int32_t> sources) {
  std::lock_guard lock(mutex_);
  expected_.assign(sources.begin(), sources.end());
  fill();
}

// The first entry of the source that nobody has; what lies before it will not be asked for.
StreamRing::Entry* StreamRing::find(int32_t source) {
  for (Entry& entry : entries_) {
    if (entry.source != source || entry.leased || entry.dropped) continue;
    for (Entry& before : entries_) {
      if (&before == &entry) break;
      if (!before.leased) before.dropped = true;
    }
    reclaim();
    return &entry;
  }
  return nullptr;
}

void StreamRing::restart(int32_t source) {
  for (Entry& entry : entries_)
    if (!entry.leased) entry.dropped = true;
  reclaim();
  const auto expected = std::find(expected_.begin(), expected_.end(), source);
  if (expected != expected_.end()) {
    expected_.erase(expected_.begin(), expected);
    return;
  }
  expected_.clear();
  for (size_t i = 0; i < cycle_.size(); ++i) {
    const size_t place = (last_ + i) % cycle_.size();
    if (cycle_[place] != source) continue;
    cursor_ = place;
    return;
  }
  expected_.push_back(source);
  if (!cycle_.empty()) cursor_ = last_ % cycle_.size();
}

// Asks the disk for as much as there is room for.
void StreamRing::fill() {
  for (;;) {
    const bool expected = !expected_.empty();
    if (!expected && cycle_.empty()) return;
    const size_t place = cursor_ % std::max<size_t>(cycle_.size(), 1);
    const int32_t id = expected ? expected_.front() : cycle_[place];
    const Source& source = sources_[id];
    uint64_t begin;
    if (!room(source.cover(), begin)) return;
    if (expected) {
      expected_.pop_front();
    } else {
      cursor_ = place + 1;
    }
    const uint64_t ticket = first_ticket_ + entries_.size();
    entries_.push_back({.source = id, .place = expected ? -1 : static_cast<int64_t>(place), .begin = begin,
                        .end = begin + source.cover()});
    disk_.submit({.file = source.file, .offset = source.offset, .bytes = source.bytes,
                  .buffer = memory_.data() + begin,
                  .done = [this, ticket](Status status) { arrived(ticket, std::move(status)); }});
  }
}

bool StreamRing::room(uint64_t bytes, uint64_t& begin) const {
  if (entries_.empty()) {
    begin = 0;
    return bytes <= memory_.size();
  }
  const uint64_t head = entries_.front().begin, tail = entries_.back().end;
  if (tail <= head) {  // around the end
    begin = tail;
    return head - tail >= bytes;
  }
  begin = memory_.size() - tail >= bytes ? tail : 0;
  return begin == tail || head >= bytes;
}

void StreamRing::reclaim() {
  while (!entries_.empty() && entries_.front().dropped && !entries_.front().reading) {
    entries_.pop_front();
    ++first_ticket_;
  }
}

void StreamRing::arrived(uint64_t ticket, Status status) {
  std::lock_guard lock(mutex_);
  Entry& entry = entries_[ticket - first_ticket_];
  entry.reading = false;
  entry.status = std::move(status);
  reclaim();
  changed_.notify_all();
}

}  // namespace venturi
