// The execution context: an architecture's forward pass is written once, as calls of ops on a
// context, and the context decides what they do.
//
//   shape: nothing is computed. Ops allocate from an arena without memory and report their cost, so
//          one pass over the same code yields the peak of activations, the bytes and operations of
//          every op, the order in which weights are used, and what each op reads and changes, before anything
//          is loaded.
//   run:   the ops compute. When the bytes of a weight do not come (a disk that fails), the step has
//          failed: ops do nothing from then on, and who runs the step takes the error.
//
// Observers see each linear's input and each mixture's routes; a profile adds up time per op.
// Threads: one context, one calling thread; ops spread over the pool.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/thread_pool.h"
#include "memory/neurons/bundle.h"
#include "memory/residency.h"
#include "ops/arena.h"

namespace venturi {

// What one op moves and computes.
struct OpCost {
  std::string_view op;       // "linear", "attend", "norm", …
  uint64_t weight_bytes = 0;
  uint64_t state_bytes = 0;  // of sequence state read
  uint64_t int8_macs = 0, f32_macs = 0;
};

struct OpTotals {
  uint64_t calls = 0, weight_bytes = 0, state_bytes = 0, int8_macs = 0, f32_macs = 0;
  double seconds = 0;
};

// Receives what flows through a run: for calibration, Hessians, statistics.
class Observer {
 public:
  virtual ~Observer() = default;
  // x [rows, n_in] is what `weight` (plane `plane`) is about to be multiplied with.
  virtual void linear_input(const Weight& weight, int64_t plane, const float* x, int64_t rows, int64_t n_in) = 0;
  // A mixture is about to compute: chosen [rows, top_k], best first, of the experts whose gate is `gate`.
  virtual void routed(const Weight& gate, const int32_t* chosen, int64_t rows, int64_t top_k) {
    (void)gate, (void)chosen, (void)rows, (void)top_k;
  }
};

// Chooses the experts instead of the routers, whose weights stay: for measuring with random models,
// which route without locality (ops/route_replay.h).
class RouteSource {
 public:
  virtual ~RouteSource() = default;
  // Overwrites chosen [rows, top_k] for the experts whose gate is `gate`: different within a row.
  virtual void choose(const Weight& gate, int32_t* chosen, int64_t rows, int64_t top_k) = 0;
};

// What an op did to blocks of the arena, named by their place in its trace: which orders of ops give the same
// (ops/order.h). Filled in by shape mode.
struct OpAccess {
  std::string_view op;
  std::vector<int32_t> reads, writes;  // what is written again is changed in place
  std::vector<int32_t> after;          // ops whose results it takes other than in blocks
  int32_t n_blocks = 0;                // in the trace when it began
  int64_t time = 0;                    // of the arena then
  int32_t group = -1;                  // those of one group stay together
};

class Adapter;
class AdapterSet;
class Context;

// A block of arena memory, freed on destruction: an activation [rows, cols] of f32, or scratch.
class Act {
 public:
  Act() = default;
  Act(Act&& other) noexcept { *this = std::move(other); }
  Act& operator=(Act&& other) noexcept;
  ~Act() { reset(); }
  void reset();

  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }
  float* data() { return data_; }
  const float* data() const { return data_; }
  float* row(int64_t r) { return data_ + r * cols_; }
  const float* row(int64_t r) const { return data_ + r * cols_; }
  // Rows [begin, begin + n), borrowed.
  Act view(int64_t begin, int64_t n);

 private:
  friend class Context;
  Context* context_ = nullptr;
  uint64_t offset_ = 0;
  int32_t block_ = -1;  // in the arena's trace; -1: in none
  int64_t rows_ = 0, cols_ = 0;
  float* data_ = nullptr;
};

class Context {
 public:
  // Shape mode. `threads` is what a run would have: scratch is per thread.
  static std::unique_ptr<Context> shape(int threads);
  // Run mode over an arena of `arena_bytes` (the peak that shape mode found), drawn from the ledger.
  static Result<std::unique_ptr<Context>> run(std::shared_ptr<Ledger> ledger, std::shared_ptr<ThreadPool> pool,
                                              uint64_t arena_bytes);

  // False in shape mode, and from a failure of the step to take_error().
  bool computes() const { return pool_ != nullptr && !failed(); }
  ThreadPool& pool() { return *pool_; }
  int threads() const { return threads_; }

  Act allocate(int64_t rows, int64_t cols);
  Act scratch_bytes(int64_t bytes) { return allocate(1, (bytes + 3) / 4); }

  // One block of the arena in which everything is allocated until the scope ends: for work whose blocks
  // come in another order or number from step to step (experts, tiles of rows), so that what lies
  // outside keeps to its plan. `bytes` is what workspace_bytes() found; workspaces do not nest, an inner
  // one is the outer. What is allocated inside ends inside.
  class Workspace {
   public:
    Workspace(Context& context, uint64_t bytes);
    ~Workspace();

   private:
    Context* context_ = nullptr;
  };
  // The arena's peak over what `body(context)` allocates, by a pass in shape mode; remembered for
  // (whose, rows), an address and a number that say what body does.
  template <typename Body>
  uint64_t workspace_bytes(const void* whose, int64_t rows, Body body) {
    const auto [found, is_new] = workspace_bytes_.try_emplace({whose, rows});
    if (is_new) {
      const std::unique_ptr<Context> context = shape(threads_);
      context->row_tile_ = row_tile_;
      context->adapters_ = adapters_;
      body(*context);
      found->second = context->arena_peak();
    }
    return found->second;
  }

  // Rows that a feed-forward takes at once, so that its wide hidden rows are never all in memory;
  // 0: all. Weights are read once per tile, so where they stream from a disk the tile is all.
  int64_t row_tile() const { return row_tile_; }
  void set_row_tile(int64_t rows) { row_tile_ = rows; }
  // A multiple of the rows that the products of linear.cc take per pass over a weight, so that cutting
  // here adds no pass.
  static constexpr int64_t kRowTile = 192;

  // The adapters that rows may have, null: none; scratch is for any of them. Outlive the context.
  void set_adapters(const AdapterSet* adapters) { adapters_ = adapters; }
  const AdapterSet* adapters() const { return adapters_; }
  // Which one each row has that ops see at the moment (null: none has it); empty: no row has one.
  void set_row_adapters(std::vector<const Adapter*> of_row) {
    adapter_of_row_ = std::move(of_row);
    row_adapters_ = adapter_of_row_;
  }
  std::span<const Adapter* const> row_adapters() const { return row_adapters_; }
  // While ops see rows [begin, begin + n) of them only.
  class RowScope {
   public:
    RowScope(Context& context, int64_t begin, int64_t n) : context_(context), before_(context.row_adapters_) {
      if (!before_.empty()) context.row_adapters_ = before_.subspan(static_cast<size_t>(begin), static_cast<size_t>(n));
    }
    ~RowScope() { context_.row_adapters_ = before_; }
    RowScope(const RowScope&) = delete;
    RowScope& operator=(const RowScope&) = delete;

   private:
    Context& context_;
    const std::span<const Adapter* const> before_;
  };
  // Ops see these rows from now on.
  void keep_rows(std::span<const int64_t> rows);

  using Acts = std::initializer_list<const Act*>;

  // An op opens a scope with its cost, what it reads, and what it makes or changes; what it allocates and does not
  // name is scratch. The scope times it in a run.
  class Scope {
   public:
    Scope(Context& context, const OpCost& cost, Acts reads = {}, Acts writes = {});
    ~Scope();
    bool computes() const { return context_.computes(); }

   private:
    Context& context_;
    std::string_view op_;
    double begin_ = 0;
  };

  // Ops until the end of the scope are one to whoever orders them; groups do not nest, an inner one is the outer.
  class Group {
   public:
    explicit Group(Context& context, Acts reads = {}, Acts writes = {});
    ~Group();

   private:
    Context* context_ = nullptr;
  };
  // Of the op begun last: what it writes besides. Of the next one: what it has to follow, an op as last_op() told.
  void also_writes(const Act& act);
  int32_t last_op() const { return static_cast<int32_t>(accesses_.size()) - 1; }
  void next_follows(int32_t op) {
    if (!pool_ && op >= 0) follows_.push_back(op);
  }
  const std::vector<OpAccess>& accesses() const { return accesses_; }

  // An op notes which plane of a weight it is about to use; shape mode keeps the order.
  void note(const Weight& weight, int64_t plane, Use use) {
    if (!pool_ && !weight.bundles) uses_.push_back({&weight, plane, use});
  }
  const std::vector<WeightUse>& uses() const { return uses_; }
  // Likewise a feed-forward whose activation is zero for whole neurons.
  void note_neurons(const NeuronLayer& layer) {
    if (!pool_) neuron_layers_.push_back(layer);
  }
  const std::vector<NeuronLayer>& neuron_layers() const { return neuron_layers_; }

  // A read that the disk refused, an allocation that neither the arena nor the ledger had room for: ops do
  // nothing after one, so the step runs to its end without harm; its result is to be thrown away.
  void fail(Error error) {
    if (!error_) error_ = std::move(error);
  }
  bool failed() const { return error_.has_value(); }
  // What the step failed of, if it did; the next step starts anew.
  Status take_error() {
    if (!error_) return {};
    return *std::exchange(error_, std::nullopt);
  }

  void set_observer(Observer* observer) { observer_ = observer; }
  Observer* observer() const { return observer_; }
  void set_route_source(RouteSource* source) { route_source_ = source; }
  RouteSource* route_source() const { return route_source_; }

  void reset_profile() { totals_.clear(); }
  void set_profiling(bool on) { profiling_ = on; }
  const std::map<std::string_view, OpTotals>& totals() const { return totals_; }
  // Shape mode: every op in order.
  const std::vector<OpCost>& costs() const { return costs_; }
  uint64_t arena_peak() const { return arena_.peak(); }
  const Arena& arena() const { return arena_; }

 private:
  friend class Act;
  Context() = default;
  void free(uint64_t offset);
  void record(std::string_view op, Acts reads, Acts writes);

  struct Inner {
    Act block;
    uint64_t begin = 0, bytes = 0;
    Arena arena;
    std::optional<Group> group;
  };

  std::shared_ptr<Ledger> ledger_;
  std::shared_ptr<ThreadPool> pool_;
  int threads_ = 1;
  Buffer memory_;
  Arena arena_;
  // Blocks the planned arena had no hole for; should stay empty.
  std::map<uint64_t, Buffer> overflow_;
  std::optional<Inner> inner_;  // the workspace, inside one
  std::map<std::pair<const void*, int64_t>, uint64_t> workspace_bytes_;
  int64_t row_tile_ = kRowTile;
  const AdapterSet* adapters_ = nullptr;
  std::vector<const Adapter*> adapter_of_row_;
  std::span<const Adapter* const> row_adapters_;  // of adapter_of_row_
  Observer* observer_ = nullptr;
  RouteSource* route_source_ = nullptr;
  bool profiling_ = false;
  std::map<std::string_view, OpTotals> totals_;
  std::vector<OpCost> costs_;
  std::vector<OpAccess> accesses_;
  std::vector<int32_t> follows_;
  int32_t group_ = -1, n_groups_ = 0;
  std::vector<WeightUse> uses_;
  std::vector<NeuronLayer> neuron_layers_;
  std::optional<Error> error_;
};

}  // namespace venturi
