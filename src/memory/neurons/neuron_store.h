// The neurons of bundled feed-forwards: recently active ones in memory, newcomers read from the sidecar.
//
// A feed-forward says which neurons it needs (begin), ascending, and takes their bundles in runs of
// whole blocks (next): neurons in its window lie there; the others are read, neighbours in one request,
// into a ring that the disk fills ahead of use, so what was read is computed with while the rest
// is on its way. A newcomer that has a slot in the window is copied there as it passes. When most of a
// layer is asked for (a chunk of a prompt), the requests join up and the layer streams in order.
// Which neurons stay is a function of what was asked, and changes no bit. Threads: one, the one that runs the
// step; the disk's threads report. Failure: Code::kIo, with file and offset, from next(); the step has
// failed then, begin() starts anew.
#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "base/buffer.h"
#include "base/disk.h"
#include "memory/neurons/sidecar.h"
#include "memory/neurons/window.h"

namespace venturi {

struct NeuronPlan {
  uint64_t window_bytes = 0;  // of bundles that stay, all layers together
  uint64_t ring_bytes = 0;    // for what is being read
  uint64_t gap_bytes = 0;     // read for nothing between two neurons rather than ask the disk twice
  uint64_t request_bytes = 256u << 10;
  int depth = 128;            // requests in flight

  bool used() const { return ring_bytes > 0; }
  bool operator==(const NeuronPlan&) const = default;
};

// The least ring in which these layers run, and what everything but the windows takes, whole pages.
uint64_t least_neuron_ring(const Sidecar& sidecar, const NeuronPlan& plan);
uint64_t neuron_memory(const Sidecar& sidecar, const NeuronPlan& plan);

struct NeuronCounters {
  uint64_t rows = 0;        // of inputs
  uint64_t asked = 0;       // neurons of layers times those rows
  uint64_t active = 0;      // of them
  uint64_t used = 0;        // bundles, each once a step
  uint64_t newcomers = 0;   // of them, read
  uint64_t newcomer_bytes = 0, bundle_bytes = 0;  // of newcomers; of all neurons in rows
  uint64_t disk_bytes = 0, requests = 0;
  uint64_t stalls = 0;
  double stall_seconds = 0;

  NeuronCounters operator-(const NeuronCounters& o) const;
};

class NeuronStore {
 public:
  // Draws its memory from the ledger, reads the scales, and becomes the store of the sidecar's layers.
  static Result<std::unique_ptr<NeuronStore>> create(Ledger& ledger, Sidecar& sidecar, const NeuronPlan& plan,
                                                     const DiskOptions& disk);

  // Starts on a layer whose `rows` inputs need these neurons, ascending; `order` has the same ones, least
  // recently active first (a later row is more recent). Both are copied. `active`: over all rows.
  void begin(const BundledLayer& layer, std::span<const int32_t> neurons, std::span<const int32_t> order, int64_t rows,
             int64_t active);

  struct Run {
    std::span<const int32_t> neurons;        // the next ones
    std::span<const uint8_t* const> bundles;  // of each, until the next call
    bool empty() const { return neurons.empty(); }
  };
  // At least one block of 32, at most `max_neurons` (32 or more) from `max_blocks` blocks; waits for them. Empty at the end.
  Result<Run> next(int64_t max_blocks, int64_t max_neurons);

  const uint16_t* scales(const BundledLayer& layer, int64_t block) const;
  NeuronCounters counters() const;
  uint64_t n_layers() const { return windows_.size(); }
  // Of the bundle and its neurons active in the rows so far, all layers; 1 before there were any.
  double active_share() const;
  DiskReader& disk() { return *disk_; }

 private:
  // One read, of the neurons [first, last] of the list and what lies between.
  struct Request {
    int64_t first = 0, last = 0;
    uint64_t offset = 0, bytes = 0;
    uint64_t memory = 0;  // in the ring, once sent
    bool sent = false, done = false;
    Status status = {};
  };

  explicit NeuronStore(const NeuronPlan& plan) : plan_(plan) {}
  void plan_requests(const SidecarEntry& entry);
  void send();
  bool room(uint64_t bytes, uint64_t& begin) const;
  int64_t run_end(int64_t max_blocks, int64_t max_neurons) const;
  Status wait(size_t last_request);
  void release_until(int64_t item);
  void abandon();
  uint64_t cover(const Request& r) const { return disk_cover(r.offset, r.bytes, align_); }

  const NeuronPlan plan_;
  uint64_t align_ = kDiskAlign;
  const Sidecar* sidecar_ = nullptr;
  Buffer scales_, slots_, ring_;
  Lease tables_;
  std::vector<uint64_t> scale_at_, slots_at_;  // of each layer, in the buffers
  std::vector<NeuronWindow> windows_;

  // Of the layer at hand.
  const BundledLayer* layer_ = nullptr;
  std::vector<int32_t> neurons_;
  std::vector<int32_t> request_of_;  // of each neuron of the list; -1: it is held
  std::vector<const uint8_t*> bundles_;
  int64_t position_ = 0;             // in the list: what next() goes on with
  std::deque<Request> requests_;     // stable addresses
  size_t released_ = 0, sent_ = 0;   // requests before these are
  uint64_t missing_bytes_ = 0;

  mutable std::mutex mutex_;         // of Request::done and status, and in_flight_
  std::condition_variable changed_;
  int64_t in_flight_ = 0;
  NeuronCounters counters_;
  std::unique_ptr<DiskReader> disk_;  // last: gone before the buffers
};

}  // namespace venturi
