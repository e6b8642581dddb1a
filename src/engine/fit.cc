#include "engine/fit.h"

#include <algorithm>

#include "base/checked.h"
#include "engine/sparse.h"

namespace venturi {

namespace {

// A context that the engine chooses is not cut below this for the sake of having all weights in memory.
constexpr int64_t kUsefulContext = 512;
// Rows of a step where nobody says. More bring nothing where weights are in memory: at 256 rows products are as fast as they
// get, and activations grow with the rows. Streaming, every step reads the file once, but beyond some hundred rows it computes
// longer than it reads; for disks so slow that it does not, `venturi plan` says what larger steps would give, as what they
// give hangs on the machine, of which nothing is known here. A batch whose activations take more than an eighth of the budget
// is halved.
constexpr int64_t kDefaultBatch = 512, kLeastBatch = 64;

Step shape_step(int64_t rows, int64_t position, int64_t outputs) {
  Step step;
  step.tokens.assign(rows, 0);
  step.spans = {{.row_begin = 0, .n_rows = rows, .position = position, .state = nullptr}};
  for (int64_t r = rows - outputs; r < rows; ++r) step.output_rows.push_back(r);
  return step;
}

uint64_t arena_peak(const Model& model, const AdapterSet* adapters, int threads, int64_t row_tile, const Step& step) {
  const auto context = Context::shape(threads);
  context->set_row_tile(row_tile);
  if (adapters && !adapters->empty()) context->set_adapters(adapters);
  (void)model.forward(*context, step);
  return context->arena_peak();
}

class Fitting {
 public:
  Fitting(const Model& model, WeightCatalog& catalog, const EngineOptions& options, const Sidecar* sidecar,
          const AdapterSet* adapters)
      : model_(model), catalog_(catalog), o_(options), sidecar_(sidecar), adapters_(adapters),
        adapter_bytes_(adapters ? adapters->bytes() : 0) {}

  Result<Setting> run();

 private:
  // What a setting takes with the rows pinned that the catalog has at the moment, without windows.
  Footprint measure(const EngineOptions& o) const;
  StatePlan state_plan(const EngineOptions& o) const {
    return plan_state(model_.info().slots,
                      {.tokens = o.context, .sequences = o.sequences, .rows = o.batch, .blocks = shared_blocks_}, state_limit_);
  }
  // As many shared pages as there is room for, at least those of one sequence; none where that has no room.
  void share_state();
  // Lets state spill that has no place beside all weights, or, if `streamed`, beside the least of them; false
  // if even so it does not fit.
  bool spill_state(bool streamed);
  // With as little of the weights in memory as can be.
  uint64_t least_peak(const Footprint& f) const { return least_weights_ + f.working(); }
  bool resident_fits(const EngineOptions& o) const { return measure(o).peak() <= o_.memory; }
  bool streamed_fits(const EngineOptions& o) const { return least_peak(measure(o)) <= o_.memory; }
  // The largest context up to o_.context that passes, in pages; 0 if none does.
  template <typename Passes>
  int64_t largest_context(Passes passes) const;
  Error refusal() const;
  // The first batch, from the one wished for down to the least of comfort, with which it passes; else the batch is as
  // it was. A batch that was asked for is not changed.
  template <typename Passes>
  bool some_batch(Passes passes);
  std::string adapters_text() const { return adapter_bytes_ > 0 ? ", adapters " + format_bytes(adapter_bytes_) : ""; }
  Result<Setting> with_plan(ResidencyPlan plan);
  Result<Setting> streamed();
  // The uses, and the least that weights can take, with the sidecar or without.
  void use_sidecar(bool on);
  void find_uses();

  EngineOptions at(int64_t context) const {
    EngineOptions o = o_;
    o.context = context;
    return o;
  }

  const Model& model_;
  WeightCatalog& catalog_;
  EngineOptions o_;
  const Sidecar* sidecar_;
  const AdapterSet* adapters_;
  const uint64_t adapter_bytes_;
  NeuronPlan neurons_;
  bool free_context_ = false, free_batch_ = false;
  std::vector<WeightUse> uses_;
  uint64_t least_weights_ = 0;
  uint64_t state_limit_ = UINT64_MAX;     // what is above it spills
  int64_t shared_blocks_ = 0;             // 0: each sequence has its own
  int64_t row_tile_ = Context::kRowTile;  // 0 where weights stream
};

Footprint Fitting::measure(const EngineOptions& o) const {
  Footprint f;
  f.weights = catalog_.bytes(o.repack);
  f.adapters = adapter_bytes_;
  f.staging = catalog_.staging_bytes() * o.threads;
  const StatePlan state = state_plan(o);
  f.state = state.bytes;
  f.state_file = state.file_bytes;
  const int64_t rows = std::min(o.batch, o.context);
  // The last chunk of a full context, and one decode step of every sequence at its end.
  Step chunk = shape_step(rows, o.context - rows, std::min(o.outputs, rows)), decode;
  chunk.spills = decode.spills = state.spills();
  f.activations = arena_peak(model_, adapters_, o.threads, row_tile_, chunk);
  for (int i = 0; i < o.sequences; ++i) {
    decode.tokens.push_back(0);
    decode.spans.push_back({.row_begin = i, .n_rows = 1, .position = o.context - 1, .state = nullptr});
    decode.output_rows.push_back(i);
  }
  f.activations = Buffer::held_bytes(std::max(f.activations, arena_peak(model_, adapters_, o.threads, row_tile_, decode)));
  return f;
}

template <typename Passes>
bool Fitting::some_batch(Passes passes) {
  const int64_t wished = o_.batch;
  for (;; o_.batch /= 2) {
    if (passes()) return true;
    if (!free_batch_ || o_.batch / 2 < kLeastBatch) break;
  }
  o_.batch = wished;
  return false;
}

void Fitting::share_state() {
  const int64_t one = ceil_div(o_.context, kPageTokens), all = one * o_.sequences;
  const uint64_t limit = o_.state_memory > 0 ? o_.state_memory : UINT64_MAX;
  const auto most = [&](auto passes) {
    int64_t low = one - 1, high = all;
    while (low < high) {
      shared_blocks_ = (low + high + 1) / 2;
      if (measure(o_).state <= limit && passes()) {
        low = shared_blocks_;
      } else {
        high = shared_blocks_ - 1;
      }
    }
    return low;
  };
  int64_t resident = 0;
  if (some_batch([&] { return (resident = most([&] { return resident_fits(o_); })) >= one; })) {
    shared_blocks_ = resident;
    return;
  }
  // Of a budget in which weights stream, a quarter.
  const int64_t streamed = most([&] { return streamed_fits(o_) && (shared_blocks_ == one || measure(o_).state <= o_.memory / 4); });
  shared_blocks_ = streamed >= one ? streamed : 0;
}

bool Fitting::spill_state(bool streamed) {
  if (!o_.spill || shared_blocks_ > 0) return false;
  const uint64_t before = state_limit_;
  state_limit_ = 0;  // the least
  const Footprint least = measure(o_);
  const uint64_t weights = streamed ? least_weights_ : least.weights;
  const bool fits = weights + least.working() <= o_.memory;
  if (fits) {
    // Steps of another shape may fragment the arena a little.
    const uint64_t room = o_.memory - weights - least.adapters - least.activations;
    state_limit_ = std::min(before, std::max(least.state, room - std::min(room, least.activations / 8)));
    // Every byte of a weight is read in every step, one of the state only when the context is full.
    if (streamed) state_limit_ = std::min(state_limit_, std::max(least.state, o_.memory / 4));
  } else {
    state_limit_ = before;
  }
  return fits;
}

template <typename Passes>
int64_t Fitting::largest_context(Passes passes) const {
  int64_t low = 0, high = ceil_div(o_.context, kPageTokens);
  while (low < high) {
    const int64_t middle = (low + high + 1) / 2;
    if (passes(at(middle * kPageTokens))) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low * kPageTokens;
}

Result<Setting> Fitting::run() {
  const ModelInfo& info = model_.info();
  if (o_.threads <= 0) o_.threads = default_thread_count();
  free_context_ = o_.context <= 0;
  free_batch_ = o_.batch <= 0 && !info.whole_spans;
  if (free_context_) o_.context = std::min<int64_t>(info.trained_context, 4096);
  if (o_.batch <= 0) o_.batch = kDefaultBatch;
  if (info.max_context > 0 && o_.context > info.max_context)
    return error(Code::kInvalidArgument, "a context of {} was asked for; {} has positions for {} (-c {})", o_.context,
                 catalog_.file().path, info.max_context, info.max_context);
  // What cannot be fed in parts must fit one step.
  if (info.whole_spans) o_.batch = std::max(o_.batch, o_.context);
  find_uses();
  if (o_.shared_state) share_state();
  if (o_.state_memory > 0 && shared_blocks_ == 0) {
    state_limit_ = o_.state_memory;
    if (!o_.spill) o_.spill = "";
    if (const uint64_t need = measure(o_).state; need > state_limit_)
      return error(Code::kOutOfBudget, "a state of {} is less than a step of {} rows needs in memory ({} bytes)",
                   format_bytes(state_limit_), o_.batch, need);
  }
  if (o_.neurons) {
    if (!sidecar_) return error(Code::kNotFound, "{}: neurons are to be read by themselves, but there is no sidecar", catalog_.file().path);
    use_sidecar(true);
    neurons_ = *o_.neurons;
    return with_plan(o_.residency.value_or(ResidencyPlan()));
  }
  if (o_.residency) return with_plan(*o_.residency);
  if (o_.wishes.pinned_bytes == UINT64_MAX && o_.wishes.expert_slots == 0) {
    // Steps of fewer rows rather than weights on the disk.
    if (some_batch([&] { return resident_fits(o_); }) || spill_state(false)) return with_plan({});
    const int64_t useful = std::min(kUsefulContext, o_.context);
    if (free_context_ && some_batch([&] { return resident_fits(at(useful)); })) {
      o_.context = std::max(useful, largest_context([&](const EngineOptions& o) { return resident_fits(o); }));
      return with_plan({});
    }
  }
  return streamed();
}

void Fitting::find_uses() {
  const auto shape = Context::shape(o_.threads);
  (void)model_.forward(*shape, shape_step(1, 0, 1));
  uses_ = shape->uses();
  least_weights_ = least_residency_bytes(catalog_, uses_, o_.repack);
  if (neurons_.used()) least_weights_ += neuron_memory(*sidecar_, neurons_);
}

void Fitting::use_sidecar(bool on) {
  set_bundles(catalog_, *sidecar_, on);
  neurons_ = on ? least_neuron_plan(*sidecar_) : NeuronPlan();
  find_uses();
}

Result<Setting> Fitting::streamed() {
  row_tile_ = 0;
  if (sidecar_ && neurons_.used() == false) {
    use_sidecar(true);
    const EngineOptions least = free_context_ ? at(std::min<int64_t>(o_.context, kPageTokens)) : o_;
    // Scales take memory too: where not even they fit, the dense way may.
    if (!streamed_fits(least)) use_sidecar(false);
  }
  if (free_batch_)
    while (o_.batch > kLeastBatch && (measure(o_).activations > o_.memory / 8 || (!o_.spill && !streamed_fits(o_)))) o_.batch /= 2;
  if (free_context_ && !o_.spill) {
    // No more than a quarter of the budget for a state that nobody asked for.
    const int64_t modest = largest_context([&](const EngineOptions& o) {
      return streamed_fits(o) && measure(o).state <= o_.memory / 4;
    });
    o_.context = modest > 0 ? std::min(modest, o_.context) : std::min<int64_t>(o_.context, kPageTokens);
  }
  const bool crowds = measure(o_).state > o_.memory / 4 || !streamed_fits(o_);
  if (!(crowds && spill_state(true)) && !streamed_fits(o_)) return refusal();
  ResidencyWishes wishes = o_.wishes;
  wishes.repack = o_.repack;
  if (neurons_.used()) {
    SparsePlan plan = TRY(plan_sparse(catalog_, uses_, *sidecar_, o_.memory - measure(o_).working(), wishes));
    neurons_ = plan.neurons;
    return with_plan(std::move(plan.residency));
  }
  return with_plan(TRY(plan_residency(catalog_, uses_, o_.memory - measure(o_).working(), wishes)));
}

Result<Setting> Fitting::with_plan(ResidencyPlan plan) {
  if (plan.streams() || neurons_.used()) row_tile_ = 0;
  TRY(catalog_.pin(plan));
  Footprint f = measure(o_);
  f.windows = forecast_residency(catalog_, uses_, plan, o_.repack).window_bytes;
  if (neurons_.used()) f.neurons = neuron_memory(*sidecar_, neurons_);
  if (f.peak() > o_.memory && o_.spill && shared_blocks_ == 0) {
    // A residency that is given leaves what it leaves.
    const uint64_t others = f.peak() - f.state, activations = f.activations;
    state_limit_ = std::min(state_limit_, o_.memory - std::min(o_.memory, others));
    const Footprint spilled = measure(o_);
    f.state = spilled.state, f.state_file = spilled.state_file, f.activations = spilled.activations;
    if (f.activations > activations) {
      state_limit_ -= std::min(state_limit_, f.activations - activations);
      f.state = measure(o_).state;
    }
  }
  if (f.peak() > o_.memory)
    return error(Code::kOutOfBudget,
                 "the plan needs {} (pinned weights {}, windows {}, state {}, activations {}{}), the memory budget is {}",
                 format_bytes(f.peak()), format_bytes(f.weights), format_bytes(f.windows + f.neurons), format_bytes(f.state),
                 format_bytes(f.activations), adapters_text(), format_bytes(o_.memory));
  return Setting{o_, f, state_plan(o_), std::move(plan), neurons_, std::move(uses_)};
}

Error Fitting::refusal() const {
  const Footprint f = measure(o_);
  const StatePlan least = plan_state(model_.info().slots, {.tokens = o_.context, .sequences = o_.sequences, .rows = o_.batch}, 0);
  const bool spillable = !o_.spill && least.spills() && least_weights_ + least.bytes + f.adapters + f.activations <= o_.memory;
  return error(Code::kOutOfBudget,
               "{} with a context of {} in steps of {} rows does not fit a memory budget of {}, not even streamed (weights {} at "
               "least, {} all; state {}, activations {}{}){}",
               catalog_.file().path, o_.context, o_.batch, format_bytes(o_.memory), format_bytes(least_weights_),
               format_bytes(f.weights), format_bytes(f.state), format_bytes(f.activations), adapters_text(),
               spillable ? "; with --spill, state has room on the disk" : "");
}

// What would fit instead, by fitting it.
class Advice {
 public:
  Advice(const Model& model, WeightCatalog& catalog, const EngineOptions& options, const Sidecar* sidecar, const AdapterSet* adapters)
      : model_(model), catalog_(catalog), o_(options), sidecar_(sidecar), adapters_(adapters) {}

  std::string text() {
    std::string text;
    if (o_.context > 0)
      if (const int64_t context = most(o_.context, [&](EngineOptions& o, int64_t n) { o.context = n; }); context > 0)
        text += fmt::format("; the largest context that fits is {} (-c {})", context, context);
    const int64_t batch = o_.batch > 0 ? o_.batch : kLeastBatch;
    if (!model_.info().whole_spans)
      if (const int64_t rows = most(batch, [&](EngineOptions& o, int64_t n) { o.batch = n; }); rows > 0)
        text += fmt::format("; in steps of {} rows it fits (-b {})", rows, rows);
    if (o_.state_memory > 0)
      if (const uint64_t state = least(o_.state_memory, kKilo, [&](EngineOptions& o, uint64_t n) { o.state_memory = n; }); state > 0)
        text += fmt::format("; with --state-memory {}k it fits", state / kKilo);
    // A ledger that another engine has a part of is larger than what was fitted to.
    const uint64_t others = o_.ledger ? o_.ledger->limit() - std::min(o_.ledger->limit(), o_.memory) : 0;
    if (const uint64_t memory = least(o_.memory, kMega, [&](EngineOptions& o, uint64_t n) { o.memory = n; }); memory > 0)
      text += fmt::format(". Give --memory {}M or more", ceil_div(static_cast<int64_t>(memory + others), kMega));
    return text;
  }

 private:
  static constexpr int64_t kKilo = 1000, kMega = 1000000;

  bool fits(const EngineOptions& o) {
    if (sidecar_) set_bundles(catalog_, *sidecar_, false);
    catalog_.pin_all();
    return Fitting(model_, catalog_, o, sidecar_, adapters_).run().ok();
  }
  // The largest number below `refused` with which it fits; 0 if none does.
  template <typename Set>
  int64_t most(int64_t refused, Set set) {
    int64_t low = 0, high = refused;
    while (high - low > 1) {
      const int64_t middle = low + (high - low) / 2;
      EngineOptions o = o_;
      set(o, middle);
      (fits(o) ? low : high) = middle;
    }
    return low;
  }
  // The least number of whole units above `refused` with which it fits; 0 if none does.
  template <typename Set>
  uint64_t least(uint64_t refused, uint64_t unit, Set set) {
    const auto passes = [&](uint64_t n) {
      EngineOptions o = o_;
      set(o, n * unit);
      return fits(o);
    };
    uint64_t low = refused / unit, high = low;
    do {
      high = high * 2 + 1;
      if (high > kMost / unit) return 0;
    } while (!passes(high));
    while (high - low > 1) {
      const uint64_t middle = low + (high - low) / 2;
      (passes(middle) ? high : low) = middle;
    }
    return high * unit;
  }
  static constexpr uint64_t kMost = uint64_t{1} << 44;

  const Model& model_;
  WeightCatalog& catalog_;
  const EngineOptions& o_;
  const Sidecar* sidecar_;
  const AdapterSet* adapters_;
};

}  // namespace

Result<Setting> fit_setting(const Model& model, WeightCatalog& catalog, const EngineOptions& options, const Sidecar* sidecar,
                            const AdapterSet* adapters) {
  return Fitting(model, catalog, options, sidecar, adapters).run();
}

Error with_advice(Error refusal, const Model& model, WeightCatalog& catalog, const EngineOptions& options, const Sidecar* sidecar,
                  const AdapterSet* adapters) {
  // A plan that is given has no flags that could be others.
  if (refusal.code != Code::kOutOfBudget || options.residency || options.neurons) return refusal;
  refusal.message += Advice(model, catalog, options, sidecar, adapters).text();
  return refusal;
}

}  // namespace venturi
