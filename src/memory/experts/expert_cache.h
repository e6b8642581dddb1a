// Experts on demand: memory for some of a mixture's experts, filled as the routing asks.
//
// An expert (gate, up and down of one plane) takes a slot. When a mixture begins, those of its experts
// that are not held are given slots by the eviction policy and read, deep and direct, while those that
// are held compute; and while the layer's attention does, where the router sees what enters the layer. An expert is interleaved for the kernels, where it lies, when it is used again or by many rows:
// half of what is read is used once, by one row, when nothing else is to be done and the disk waits for what is routed
// next, while what is held computes beside reads.
//
// Which unit gets which slot is decided at once and by the policy alone, as in simulate(), so that the
// experts read are the experts counted there; a slot whose expert is yet to be used in this step is
// filled only afterwards, which is why the experts have to be taken in the order given.
//
// Guesses: while no row waits for the disk, experts of the next layers are read, one at a time, which the policy
// thinks likely, as long as they are worth more to it than what has to leave. A wrong guess costs bytes, never a
// result: what the rows choose is read when they have chosen it, before any further guess.
//
// Threads: as Residency; the disk's threads report and guess on. Failure: a read that fails (Code::kIo,
// file and offset) fails the step that needs it; the next step reads again.
#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "base/disk.h"
#include "base/thread_pool.h"
#include "memory/eviction/eviction.h"
#include "memory/experts/expert_layout.h"
#include "memory/experts/slot_table.h"
#include "memory/residency.h"

namespace venturi {

struct ExpertCounters {
  uint64_t demands = 0, hits = 0;            // experts that mixtures began with; of them held or on their way
  uint64_t asked_ahead = 0;                  // of the misses, those with other ops of the step before their use
  uint64_t guesses = 0, guesses_used = 0;    // experts read unasked; of them asked for before they left
  uint64_t demand_bytes = 0, guess_bytes = 0;  // of whole blocks
  uint64_t misses() const { return demands - hits; }

  ExpertCounters operator-(const ExpertCounters& o) const {
    return {demands - o.demands, hits - o.hits, asked_ahead - o.asked_ahead, guesses - o.guesses,
            guesses_used - o.guesses_used, demand_bytes - o.demand_bytes, guess_bytes - o.guess_bytes};
  }
};

class ExpertCache : public Residency {
 public:
  // Draws plan.expert_cache_bytes from the ledger and becomes the residency of every expert, of which the plan
  // pins no rows. Code::kInvalidArgument for a policy that there is not, or no room for one expert.
  static Result<std::unique_ptr<ExpertCache>> create(Ledger& ledger, ThreadPool& pool, WeightCatalog& catalog,
                                                     const ResidencyPlan& plan, const DiskOptions& disk, bool repack);

  void begin_experts(const Weight& gate, std::span<int32_t> experts, int64_t choices, bool ahead) override;
  Result<Piece> acquire(const Weight& weight, int64_t plane, int64_t row) override;
  void release(const Piece& piece) override;
  Status fetch_rows(const Weight& weight, std::span<const int32_t> ids, uint8_t* staging,
                    const uint8_t** rows) override;
  ResidencyCounters counters() const override;

  ExpertCounters expert_counters() const;
  ExpertShape shape() const { return shape_; }
  int64_t slots() const { return table_.n_slots(); }
  // Holds nothing and knows nothing, as in the beginning. Counters go on.
  void forget();

 private:
  struct Part {
    uint8_t* data = nullptr;  // of the first row
    bool ready = false, used = false, packed = false;
  };
  struct Slot {
    int64_t unit = SlotTable::kNone;  // whose bytes are here or on their way
    uint64_t load = 0;                // counts what was read into the slot
    int reading = 0;                  // parts in flight
    bool needed = false;              // by the mixture that runs
    bool guess = false;               // not asked for since it was read
    Status status;
    Part parts[kExpertParts];
    std::deque<int64_t> next;         // units that get the slot, one after the other
  };
  // An expert of the mixture that runs.
  struct Use {
    int64_t unit;
    int32_t slot;
    int parts_left = kExpertParts;
  };

  ExpertCache(const WeightCatalog& catalog, const ExpertLayout& layout, int64_t slots, const Eviction& policy);
  double worth(int64_t unit) const;
  void begin(int64_t layer, std::span<int32_t> experts);  // with the lock, as all below
  void plan_guesses(int64_t layer);
  Use* find_use(int64_t unit);
  bool is_used(int32_t slot, int64_t unit);
  bool failed(int32_t slot, int64_t unit) const;
  Slot& claim(Use& use);
  void pump(int32_t slot);
  void pump_guesses();
  void start(int32_t slot, int64_t unit, bool guess);
  void arrived(int32_t slot, uint64_t load, int part, bool guess, Status status);

  const WeightCatalog& catalog_;
  const ExpertLayout layout_;
  const ExpertShape shape_;
  const Eviction& policy_;
  bool repack_ = true, guessing_ = true, many_rows_ = false;
  ThreadPool* pool_ = nullptr;
  Buffer memory_;
  std::unordered_map<const Weight*, std::pair<int64_t, int>> place_of_;  // layer, part

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::unique_ptr<Evictor> evictor_;
  SlotTable table_;
  std::vector<Slot> slots_;
  std::vector<Use> visit_;
  std::deque<int64_t> guesses_;  // nearest layer first, then likeliest
  int demands_in_flight_ = 0, guesses_in_flight_ = 0;  // parts
  ExpertCounters counters_;
  uint64_t stalls_ = 0;
  double stall_seconds_ = 0;
  std::unique_ptr<DiskReader> disk_;  // last: gone before what its threads report to
};

}  // namespace venturi
