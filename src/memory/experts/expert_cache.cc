#include "memory/experts/expert_cache.h"

#include <algorithm>
#include <cassert>

#include "base/clock.h"
#include "memory/experts/place_missed.h"

namespace venturi {

namespace {

// A guess must be likelier right than wrong: where the disk is what a step waits for, a wrong one costs what a right
// one saves.
constexpr double kLeastChance = 0.5;
// Layers ahead: as far as a guess has time to arrive.
constexpr int64_t kGuessLayers = 3;
// Rows of an expert, on average, from which interleaving pays at its first use.
constexpr int64_t kManyRows = 8;

}  // namespace

ExpertCache::ExpertCache(const WeightCatalog& catalog, const ExpertLayout& layout, int64_t slots,
                         const Eviction& policy)
    : catalog_(catalog), layout_(layout), shape_{layout.n_layers, layout.n_experts}, policy_(policy),
      evictor_(policy.create(shape_)), table_(shape_.units(), slots), slots_(static_cast<size_t>(slots)) {}

Result<std::unique_ptr<ExpertCache>> ExpertCache::create(Ledger& ledger, ThreadPool& pool, WeightCatalog& catalog,
                                                         const ResidencyPlan& plan, const DiskOptions& disk,
                                                         bool repack) {
  const Eviction* policy = find_eviction(plan.expert_policy);
  if (!policy) return error(Code::kInvalidArgument, "there is no policy \"{}\" for a cache of experts", plan.expert_policy);
  const auto layout = ExpertLayout::of(catalog);
  if (!layout) return error(Code::kInvalidArgument, "{} has no experts that can be read one by one", catalog.file().path);
  const int64_t slots = std::min(layout->slots_in(plan.expert_cache_bytes), layout->units());
  if (slots < 1)
    return error(Code::kInvalidArgument, "a cache of experts of {} has no room for one; it takes {}",
                 format_bytes(plan.expert_cache_bytes), format_bytes(layout->cache_bytes(1)));
  std::unique_ptr<ExpertCache> self(new ExpertCache(catalog, *layout, slots, *policy));
  self->repack_ = repack;
  self->guessing_ = plan.expert_guesses;
  self->pool_ = &pool;
  DiskOptions options = disk;
  options.request_bytes = plan.request_bytes;
  options.depth = plan.depth;
  self->disk_ = TRY(DiskReader::create(options));
  // Files are numbered there as here.
  for (const File& file : catalog.file().files) TRY(self->disk_->add(file));
  self->memory_ = TRY(Buffer::allocate(ledger, layout->cache_bytes(slots), "expert cache"));
  for (size_t layer = 0; layer < catalog.experts().size(); ++layer)
    for (int part = 0; part < kExpertParts; ++part)
      self->place_of_[&part_of(catalog.experts()[layer], part)] = {static_cast<int64_t>(layer), part};
  for (const auto& weight : catalog.matrices()) {
    if (!self->place_of_.contains(weight.get())) continue;
    if (weight->pinned_rows > 0)
      return error(Code::kInvalidArgument, "{}: the plan has a cache of experts and pins rows of {}", catalog.file().path,
                   weight->name);
    weight->residency = self.get();
  }
  return self;
}

double ExpertCache::worth(int64_t unit) const {
  return evictor_->worth(unit / shape_.n_experts, static_cast<int32_t>(unit % shape_.n_experts));
}

void ExpertCache::begin_experts(const Weight& gate, std::span<int32_t> experts, int64_t choices, bool ahead) {
  std::lock_guard lock(mutex_);
  many_rows_ = choices >= kManyRows * static_cast<int64_t>(experts.size());
  const uint64_t missed = counters_.misses();
  begin(place_of_.at(&gate).first, experts);
  if (ahead) counters_.asked_ahead += counters_.misses() - missed;
}

void ExpertCache::begin(int64_t layer, std::span<int32_t> experts) {
  // What an earlier mixture left unused (its step failed) is needed no longer.
  for (Slot& slot : slots_) slot.needed = false;
  visit_.clear();
  evictor_->chosen(layer, experts);
  std::vector<int64_t> missed;
  for (const int32_t e : experts) {
    const int64_t unit = layer * shape_.n_experts + e;
    // What was read unasked and failed was never here.
    if (table_.holds(unit) && failed(table_.slot_of(unit), unit)) table_.drop(unit);
    ++counters_.demands;
    if (!table_.holds(unit)) {
      missed.push_back(unit);
      continue;
    }
    ++counters_.hits;
    Slot& slot = slots_[table_.slot_of(unit)];
    counters_.guesses_used += slot.guess;
    slot.guess = false;
    slot.needed = slot.unit == unit;
    visit_.push_back({unit, table_.slot_of(unit)});
  }
  // Held and read already, held and on their way, missing: the order in which they will be there.
  std::stable_partition(visit_.begin(), visit_.end(), [&](const Use& use) {
    const Slot& slot = slots_[use.slot];
    return slot.unit == use.unit && slot.reading == 0;
  });
  std::vector<int64_t> held;
  for (const Use& use : visit_) held.push_back(use.unit);
  place_missed(table_, held, missed, [this](int64_t u) { return worth(u); }, false, catalog_.experts()[layer].chosen_early,
               [this](int64_t unit, int32_t slot) {
                 visit_.push_back({unit, slot});
                 slots_[slot].next.push_back(unit);
               });
  for (const Use& use : visit_) pump(use.slot);
  for (size_t i = 0; i < visit_.size(); ++i) experts[i] = static_cast<int32_t>(visit_[i].unit % shape_.n_experts);
  plan_guesses(layer);
  pump_guesses();
}

void ExpertCache::plan_guesses(int64_t layer) {
  guesses_.clear();
  if (!guessing_) return;
  for (int64_t ahead = 1; ahead <= std::min(kGuessLayers, shape_.n_layers - 1); ++ahead) {
    const int64_t next = (layer + ahead) % shape_.n_layers;
    std::vector<std::pair<double, int64_t>> likely;
    for (int32_t e = 0; e < shape_.n_experts; ++e) {
      const int64_t unit = next * shape_.n_experts + e;
      const double chance = evictor_->likelihood(next, e);
      if (chance >= kLeastChance && !table_.holds(unit)) likely.push_back({-chance, unit});
    }
    std::sort(likely.begin(), likely.end());
    for (const auto& [chance, unit] : likely) guesses_.push_back(unit);
  }
}

// One expert at a time: the next demand waits behind it.
void ExpertCache::pump_guesses() {
  while (demands_in_flight_ == 0 && guesses_in_flight_ == 0 && !guesses_.empty()) {
    const int64_t unit = guesses_.front();
    guesses_.pop_front();
    if (table_.holds(unit)) continue;
    // What the mixture still needs and what is on its way stays.
    const auto busy = [](const Slot& slot) { return slot.needed || slot.reading > 0 || !slot.next.empty(); };
    std::vector<int64_t> locked;
    for (size_t i = 0; i < slots_.size(); ++i)
      if (const int64_t held = table_.unit_of(static_cast<int64_t>(i)); held != SlotTable::kNone && busy(slots_[i]))
        locked.push_back(held);
    for (const int64_t u : locked) table_.lock(u);
    const int32_t slot = table_.place(unit, [this](int64_t u) { return worth(u); }, true);
    for (const int64_t u : locked) table_.unlock(u);
    if (slot == SlotTable::kNone) continue;
    if (busy(slots_[slot])) {  // with what has left
      table_.drop(unit);
    } else {
      start(slot, unit, true);
    }
  }
}

ExpertCache::Use* ExpertCache::find_use(int64_t unit) {
  for (Use& use : visit_)
    if (use.unit == unit && use.parts_left > 0) return &use;
  return nullptr;
}

bool ExpertCache::is_used(int32_t slot, int64_t unit) {
  const Use* use = find_use(unit);
  return use && use->slot == slot;
}

bool ExpertCache::failed(int32_t slot, int64_t unit) const { return slots_[slot].unit == unit && !slots_[slot].status; }

// The next expert goes into a slot as soon as the one in it has been used and read.
void ExpertCache::pump(int32_t index) {
  Slot& slot = slots_[index];
  while (!slot.next.empty() && slot.reading == 0 && !slot.needed) {
    const int64_t unit = slot.next.front();
    slot.next.pop_front();
    if (is_used(index, unit) || (slot.next.empty() && table_.slot_of(unit) == index)) start(index, unit, false);
  }
}

void ExpertCache::start(int32_t index, int64_t unit, bool guess) {
  Slot& slot = slots_[index];
  slot.unit = unit;
  slot.guess = guess;
  slot.needed = !guess && is_used(index, unit);
  slot.status = {};
  slot.reading = kExpertParts;
  const uint64_t load = ++slot.load;
  const int64_t layer = unit / shape_.n_experts, plane = unit % shape_.n_experts;
  (guess ? guesses_in_flight_ : demands_in_flight_) += kExpertParts;
  counters_.guesses += guess;
  for (int part = 0; part < kExpertParts; ++part) {
    const Weight& w = part_of(catalog_.experts()[layer], part);
    const auto run = file_run(catalog_.file(), w, plane, 0, w.n_out);
    uint8_t* to = memory_.data() + layout_.scratch_bytes + static_cast<uint64_t>(index) * layout_.slot_bytes +
                  layout_.part_begin[part];
    slot.parts[part] = {.data = to + run->offset % kDiskAlign};
    (guess ? counters_.guess_bytes : counters_.demand_bytes) += disk_cover(run->offset, run->bytes);
    disk_->submit({.file = run->file, .offset = run->offset, .bytes = run->bytes, .buffer = to,
                   .done = [this, index, load, part, guess](Status status) {
                     arrived(index, load, part, guess, std::move(status));
                   }});
  }
}

void ExpertCache::arrived(int32_t index, uint64_t load, int part, bool guess, Status status) {
  std::lock_guard lock(mutex_);
  Slot& slot = slots_[index];
  assert(slot.load == load);
  --slot.reading;
  --(guess ? guesses_in_flight_ : demands_in_flight_);
  if (status) {
    slot.parts[part].ready = true;
  } else if (slot.status) {
    slot.status = std::move(status);
  }
  if (slot.reading == 0) pump(index);
  pump_guesses();
  changed_.notify_all();
}

// The slot with the bytes of a use in it or on their way.
ExpertCache::Slot& ExpertCache::claim(Use& use) {
  Slot& slot = slots_[use.slot];
  if (slot.unit == use.unit) {
    slot.needed = true;
    return slot;
  }
  // Asked for out of order, or again after it has left: the one in the slot gives way.
  if (slot.needed || slot.reading == 0) {
    slot.needed = false;
    if (slot.next.empty() || slot.next.front() != use.unit) slot.next.push_front(use.unit);
    pump(use.slot);
  }
  return slot;
}

Result<Piece> ExpertCache::acquire(const Weight& weight, int64_t plane, int64_t row) {
  assert(row == 0);
  const auto [layer, part] = place_of_.at(&weight);
  const int64_t unit = layer * shape_.n_experts + plane;
  std::unique_lock lock(mutex_);
  Use* use = find_use(unit);
  if (!use) {  // nobody said so
    auto expert = static_cast<int32_t>(plane);
    begin(layer, {&expert, 1});
    use = find_use(unit);
  }
  double waiting_since = 0;
  Slot* slot = &claim(*use);
  while (slot->unit != unit || (!slot->parts[part].ready && slot->status)) {
    if (waiting_since == 0) {
      waiting_since = now_seconds();
      ++stalls_;
    }
    changed_.wait(lock);
    slot = &claim(*use);
  }
  if (waiting_since > 0) stall_seconds_ += now_seconds() - waiting_since;
  Part& p = slot->parts[part];
  if (!p.ready) {
    const Error failure = slot->status.error();
    slot->needed = false;
    if (table_.slot_of(unit) == use->slot) table_.drop(unit);
    return failure;
  }
  const bool pack = repack_ && !p.packed && (p.used || many_rows_) && packs_in_place(weight);
  p.used = true;
  const uint64_t ticket = static_cast<uint64_t>(use - visit_.data());
  lock.unlock();  // in use: nobody writes there
  if (pack) {
    p.data = pack_in_place(weight, p.data, memory_.data(), *pool_);
    p.packed = true;
  }
  return Piece{.data = p.data, .row_begin = 0, .row_end = weight.n_out, .packed = p.packed, .ticket = ticket};
}

void ExpertCache::release(const Piece& piece) {
  std::lock_guard lock(mutex_);
  Use& use = visit_[piece.ticket];
  if (--use.parts_left > 0) return;
  slots_[use.slot].needed = false;
  pump(use.slot);
  pump_guesses();
}

Status ExpertCache::fetch_rows(const Weight& weight, std::span<const int32_t>, uint8_t*, const uint8_t**) {
  return error(Code::kInvalidArgument, "{} is an expert, of which no single rows are read", weight.name);
}

ResidencyCounters ExpertCache::counters() const {
  std::lock_guard lock(mutex_);
  return {.disk_bytes = disk_->counters().bytes, .stalls = stalls_, .stall_seconds = stall_seconds_};
}

ExpertCounters ExpertCache::expert_counters() const {
  std::lock_guard lock(mutex_);
  return counters_;
}

void ExpertCache::forget() {
  std::unique_lock lock(mutex_);
  guesses_.clear();
  for (Slot& slot : slots_) slot.next.clear();
  changed_.wait(lock, [&] { return demands_in_flight_ + guesses_in_flight_ == 0; });
  visit_.clear();
  table_ = SlotTable(shape_.units(), table_.n_slots());
  evictor_ = policy_.create(shape_);
  for (Slot& slot : slots_) {
    const uint64_t load = slot.load;
    slot = {};
    slot.load = load;
  }
}

}  // namespace venturi
