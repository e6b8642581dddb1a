// Pin and stream: rows that are not pinned are read from the disk ahead of use, in order of use.
//
// Under a cyclic scan a cache that evicts what was used longest ago rereads everything; pinning
// rereads only what is not pinned. Two windows (stream_ring.h): one goes round with the steps, and on
// across their ends, over what every step uses; the other reads what the routing chose, as hinted.
// Streamed pieces come in the file's own layout, or, from a prepared file (sidecar.h), in that of the
// kernels. The same bits either way.
#pragma once

#include <memory>
#include <unordered_map>

#include "base/disk.h"
#include "memory/residency.h"
#include "memory/stream_ring.h"

namespace venturi {

class StreamResidency : public Residency {
 public:
  // Draws the windows from the ledger and becomes the residency of every weight with rows that are not
  // pinned and nobody else's (whose pinned_rows the catalog has from the same plan); starts to read at once.
  static Result<std::unique_ptr<StreamResidency>> create(Ledger& ledger, WeightCatalog& catalog,
                                                         std::span<const WeightUse> uses, const ResidencyPlan& plan,
                                                         const DiskOptions& disk);

  Result<Piece> acquire(const Weight& weight, int64_t plane, int64_t row) override;
  void release(const Piece& piece) override;
  void hint(std::span<const Region> regions) override;
  Status fetch_rows(const Weight& weight, std::span<const int32_t> ids, uint8_t* staging,
                    const uint8_t** rows) override;
  ResidencyCounters counters() const override;

  DiskReader& disk() { return *disk_; }

 private:
  struct Segment {
    int64_t row_begin, row_end;
    StreamRing::Source source;
  };
  // The segments of a weight, plane by plane, from `first` on.
  struct Streamed {
    int32_t first = 0;
    int64_t per_plane = 0, rows = 0;  // rows of a segment, but for the last
    bool routed = false;
  };

  explicit StreamResidency(const WeightCatalog& catalog) : file_(catalog.file()) {}
  int32_t segment_of(const Streamed& streamed, const Weight& weight, int64_t plane, int64_t row) const;

  const ModelFile& file_;
  std::vector<Segment> segments_;
  std::unordered_map<const Weight*, Streamed> streamed_;
  std::unique_ptr<StreamRing> cycle_, routed_;
  std::unique_ptr<DiskReader> disk_;  // last: gone before the rings
};

}  // namespace venturi
