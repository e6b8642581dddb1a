// Residency: where the bytes of a weight are when an op needs them.
//
// A weight's planes are pinned up to a row: rows [0, Weight::pinned_rows) of each lie in memory from
// load on, in kernel layout where there is one. The rows behind them belong to a Residency, from which
// ops take them piece by piece, in order: acquire() waits until the bytes are there and lends them,
// release() gives them back. Rows are independent in every product, so where they come from changes no
// bit. The members: nobody (all rows pinned), the stream of stream.h, and caches of experts.
//
// A ResidencyPlan says which rows are pinned and how large the windows are; it is a plain value, made
// by plan_residency() from what shape mode recorded, or read from a file.
// Threads: ops call a residency from one thread, the one that runs the step. Units: bytes.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "memory/weights.h"

namespace venturi {

// How an op uses a plane of a weight; shape mode records them in order.
enum class Use {
  kProduct,   // all rows, in order, in every step
  kRouted,    // the same, but whether in this step is known only when the rows before it are
  kRows,      // a row here and there (an embedding table)
  kResident,  // in a way that only memory serves: such a weight is pinned whole
};
struct WeightUse {
  const Weight* weight = nullptr;
  int64_t plane = 0;
  Use use = Use::kProduct;
};

struct Region {
  const Weight* weight = nullptr;
  int64_t plane = 0;
};

// Rows [row_begin, row_end) of a plane, readable until released. Both are multiples of what the layout
// interleaves (row_alignment), but for the end of the plane.
struct Piece {
  const uint8_t* data = nullptr;  // of row_begin
  int64_t row_begin = 0, row_end = 0;
  bool packed = false;            // in codec->layout, else rows as in the file
  uint64_t ticket = 0;            // the member's own
};

struct ResidencyCounters {
  uint64_t disk_bytes = 0;   // whole blocks
  uint64_t stalls = 0;       // acquires that had to wait
  double stall_seconds = 0;

  ResidencyCounters operator-(const ResidencyCounters& o) const {
    return {disk_bytes - o.disk_bytes, stalls - o.stalls, stall_seconds - o.stall_seconds};
  }
  ResidencyCounters& operator+=(const ResidencyCounters& o) {
    disk_bytes += o.disk_bytes, stalls += o.stalls, stall_seconds += o.stall_seconds;
    return *this;
  }
};

class Residency {
 public:
  virtual ~Residency() = default;

  // The piece that begins at `row`: pinned_rows, or where the piece before ended. Waits. One piece at
  // a time: a caller gives back what it has before it asks for more. An error (Code::kIo) fails the
  // step; the next one may go well.
  virtual Result<Piece> acquire(const Weight& weight, int64_t plane, int64_t row) = 0;
  virtual void release(const Piece& piece) = 0;

  // What will be acquired next, in this order, beyond what every step uses: the experts that the
  // routing chose. Never required, never wrong to be wrong about.
  virtual void hint(std::span<const Region> regions) {}

  // A mixture whose experts lie with this residency is about to take the planes `experts` of a stack, which
  // come in the order in which the step's rows chose them, and are left in the order in which they are best
  // taken: what is in memory first. `choices` counts every row's. `ahead`: other ops come before they are taken.
  virtual void begin_experts(const Weight& gate, std::span<int32_t> experts, int64_t choices, bool ahead) {}

  // Rows `ids` of plane 0, wherever they are: rows[i] points to ids[i] as in the file, in `staging`, which has
  // room for ids.size() * row_staging_bytes().
  virtual Status fetch_rows(const Weight& weight, std::span<const int32_t> ids, uint8_t* staging,
                            const uint8_t** rows) = 0;

  virtual ResidencyCounters counters() const = 0;
};

// Rows whose packed form stands alone: 16, or 64 where four groups interleave.
int64_t row_alignment(const Weight& weight);
// Staging of one row in fetch_rows, on kDiskAlign.
uint64_t row_staging_bytes(const Weight& weight);

struct WeightPlan {
  std::string name;
  int64_t pinned_rows = 0;  // of every plane; a multiple of row_alignment, or all
  bool operator==(const WeightPlan&) const = default;
};

struct ResidencyPlan {
  std::vector<WeightPlan> weights;    // those with rows that are not pinned; all others are
  uint64_t segment_bytes = 4u << 20;  // a piece that is streamed
  uint64_t window_bytes = 0;          // read ahead of use, in the order of use
  uint64_t routed_bytes = 0;          // likewise for what the routing chooses
  uint64_t request_bytes = 1u << 20;  // of one read
  int depth = 16;                     // reads in flight
  bool sidecar = false;               // stream from the prepared file in kernel layout
  uint64_t expert_cache_bytes = 0;    // of a cache of experts (expert_cache.h), instead of routed_bytes
  std::string expert_policy = "forecast";  // which expert leaves it (eviction/)
  bool expert_guesses = true;         // experts are read before a row has chosen them, where the policy forecasts

  bool streams() const { return !weights.empty(); }
  bool operator==(const ResidencyPlan&) const = default;
};

// What a plan comes to.
struct ResidencyForecast {
  uint64_t pinned_bytes = 0;   // weights in memory, vectors too
  uint64_t window_bytes = 0;   // all windows
  uint64_t cycle_bytes = 0;    // read from disk by every step
  uint64_t routed_bytes = 0;   // that the routing may choose from, not pinned
  uint64_t memory() const { return pinned_bytes + window_bytes; }
};

struct ResidencyWishes {
  uint64_t window_bytes = 0;           // 0: what suits the budget
  uint64_t pinned_bytes = UINT64_MAX;  // pin no more than this, but for what cannot stream
  int64_t expert_slots = 0;            // experts held at most; 0: what the budget allows
  std::string expert_policy = "forecast";  // empty: no cache, the rows of experts are pinned in part and streamed
  bool expert_guesses = true;
  bool repack = true;
};

// Whether the plane's rows can be read piecewise: as stored, each plane in one run of a file.
bool can_stream(const ModelFile& file, const Weight& weight);

// The least that weights and windows can take: what cannot stream, and the smallest windows.
uint64_t least_residency_bytes(const WeightCatalog& catalog, std::span<const WeightUse> uses, bool repack = true);
// The default plan for `budget` bytes of weights and windows: what cannot stream is pinned; then the
// output head, which a step without outputs skips and which would sit in the window for nothing; then
// the same share of every other weight, so that compute on pinned rows and reads of the others overlap
// all along the cycle; tables of which single rows are read come last. Of a mixture, where all but the
// experts fits: that is pinned, and the rest of the budget is a cache of experts. Code::kOutOfBudget below
// least_residency_bytes().
Result<ResidencyPlan> plan_residency(const WeightCatalog& catalog, std::span<const WeightUse> uses,
                                     uint64_t budget, const ResidencyWishes& wishes = {});
ResidencyForecast forecast_residency(const WeightCatalog& catalog, std::span<const WeightUse> uses,
                                     const ResidencyPlan& plan, bool repack = true);
// Rows of a streamed piece: whole alignments, near segment_bytes, the pieces of a plane near equal.
int64_t segment_rows(const Weight& weight, int64_t pinned_rows, uint64_t segment_bytes);

}  // namespace venturi
