#include "memory/stream.h"

#include <algorithm>
#include <atomic>
#include <cassert>

#include "base/checked.h"

namespace venturi {

namespace {

// Tickets of the second window are odd.
constexpr uint64_t kRoutedMark = 1;

StreamRing::Source source_of(const ModelFile& file, const Weight& weight, int64_t plane, int64_t begin, int64_t end) {
  const auto run = file_run(file, weight, plane, begin, end);
  assert(run);  // can_stream() was asked before the plan was made
  return {run->file, run->offset, run->bytes};
}

}  // namespace

Result<std::unique_ptr<StreamResidency>> StreamResidency::create(Ledger& ledger, WeightCatalog& catalog,
                                                                 std::span<const WeightUse> uses,
                                                                 const ResidencyPlan& plan, const DiskOptions& disk) {
  std::unique_ptr<StreamResidency> self(new StreamResidency(catalog));
  DiskOptions options = disk;
  options.request_bytes = plan.request_bytes;
  options.depth = plan.depth;
  self->disk_ = TRY(DiskReader::create(options));
  // Files are numbered there as here.
  for (const File& file : catalog.file().files) TRY(self->disk_->add(file));

  std::vector<StreamRing::Source> sources;
  std::vector<int32_t> cycle;
  for (const auto& weight : catalog.matrices()) {
    const Weight& w = *weight;
    if (w.pinned_rows >= w.n_out || w.residency || w.bundles) continue;
    weight->residency = self.get();
    Streamed streamed{.first = static_cast<int32_t>(self->segments_.size()),
                      .rows = segment_rows(w, w.pinned_rows, plan.segment_bytes)};
    streamed.per_plane = ceil_div(w.n_out - w.pinned_rows, streamed.rows);
    for (int64_t plane = 0; plane < w.n_planes; ++plane)
      for (int64_t row = w.pinned_rows; row < w.n_out; row += streamed.rows) {
        const int64_t end = std::min(w.n_out, row + streamed.rows);
        self->segments_.push_back({row, end, source_of(catalog.file(), w, plane, row, end)});
        sources.push_back(self->segments_.back().source);
      }
    self->streamed_[&w] = streamed;
  }
  for (const WeightUse& use : uses) {
    const auto found = self->streamed_.find(use.weight);
    if (found == self->streamed_.end()) continue;
    Streamed& streamed = found->second;
    if (use.use == Use::kRouted) streamed.routed = true;
    if (use.use != Use::kProduct) continue;
    for (int64_t i = 0; i < streamed.per_plane; ++i)
      cycle.push_back(static_cast<int32_t>(streamed.first + use.plane * streamed.per_plane + i));
  }
  Buffer window = TRY(Buffer::allocate(ledger, plan.window_bytes, "stream window"));
  Buffer routed = TRY(Buffer::allocate(ledger, plan.routed_bytes, "stream window"));
  self->cycle_ = std::make_unique<StreamRing>(*self->disk_, std::move(window), sources, std::move(cycle));
  self->routed_ = std::make_unique<StreamRing>(*self->disk_, std::move(routed), sources, std::vector<int32_t>());
  self->cycle_->expect({});  // begins to read
  return self;
}

int32_t StreamResidency::segment_of(const Streamed& s, const Weight& weight, int64_t plane, int64_t row) const {
  return static_cast<int32_t>(s.first + plane * s.per_plane + (row - weight.pinned_rows) / s.rows);
}

Result<Piece> StreamResidency::acquire(const Weight& weight, int64_t plane, int64_t row) {
  const Streamed& streamed = streamed_.at(&weight);
  const int32_t id = segment_of(streamed, weight, plane, row);
  const Segment& segment = segments_[id];
  assert(segment.row_begin == row);
  const StreamRing::Slot slot = TRY((streamed.routed ? *routed_ : *cycle_).acquire(id));
  return Piece{.data = slot.data,
               .row_begin = segment.row_begin,
               .row_end = segment.row_end,
               .packed = false,
               .ticket = slot.ticket * 2 + (streamed.routed ? kRoutedMark : 0)};
}

void StreamResidency::release(const Piece& piece) {
  (piece.ticket & kRoutedMark ? *routed_ : *cycle_).release(piece.ticket / 2);
}

void StreamResidency::hint(std::span<const Region> regions) {
  std::vector<int32_t> next;
  for (const Region& region : regions) {
    const auto found = streamed_.find(region.weight);
    if (found == streamed_.end() || !found->second.routed) continue;
    const Streamed& s = found->second;
    for (int64_t i = 0; i < s.per_plane; ++i)
      next.push_back(static_cast<int32_t>(s.first + region.plane * s.per_plane + i));
  }
  routed_->expect(next);
}

Status StreamResidency::fetch_rows(const Weight& weight, std::span<const int32_t> ids, uint8_t* staging,
                                   const uint8_t** rows) {
  // All at once; the first that failed is the error.
  std::mutex mutex;
  std::condition_variable over;
  size_t left = ids.size();
  Status status;
  const uint64_t step = row_staging_bytes(weight);
  for (size_t i = 0; i < ids.size(); ++i) {
    uint8_t* to = staging + i * step;
    const StreamRing::Source from = source_of(file_, weight, 0, ids[i], ids[i] + 1);
    rows[i] = to + from.offset % kDiskAlign;
    disk_->submit({.file = from.file, .offset = from.offset, .bytes = from.bytes, .buffer = to,
                   .done = [&](Status s) {
                     std::lock_guard lock(mutex);
                     if (!s && status) status = std::move(s);
                     if (--left == 0) over.notify_one();
                   }});
  }
  std::unique_lock lock(mutex);
  over.wait(lock, [&] { return left == 0; });
  return status;
}

ResidencyCounters StreamResidency::counters() const {
  return {.disk_bytes = disk_->counters().bytes,
          .stalls = cycle_->stalls() + routed_->stalls(),
          .stall_seconds = cycle_->stall_seconds() + routed_->stall_seconds()};
}

}  // namespace venturi
