#include "cache/state.h"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "base/checked.h"

namespace venturi {

namespace {

int64_t rows_of(const StateShape& shape) {
  return shape.rows > 0 ? std::min(shape.rows, shape.tokens) : shape.tokens;
}

// Blocks that a sequence holds at most: with a window, what the first row of a step sees and the
// step's rows, wherever in a block they begin.
int64_t blocks_of(int64_t window, const StateShape& shape) {
  const int64_t all = ceil_div(shape.tokens, kPageTokens);
  if (window == 0) return all;
  const int64_t seen = std::min(window, shape.tokens) - 1 + rows_of(shape);
  return std::min(all, ceil_div(seen - 1, kPageTokens) + 1);
}

bool can_spill(const SlotSpec& slot) {
  return slot.kind == SlotSpec::Kind::kPaged && slot.window == 0;
}

// Pages in a file lie on its blocks.
uint64_t page_stride(const SlotSpec& slot, bool in_file) {
  return in_file && can_spill(slot) ? round_up(slot.page_bytes(), kDiskAlign) : slot.page_bytes();
}

uint64_t slot_bytes(const SlotSpec& slot, const StatePlan& plan) {
  const uint64_t stride = page_stride(slot, plan.spills() || plan.shared());
  if (can_spill(slot)) return stride * plan.resident_blocks;
  if (slot.kind == SlotSpec::Kind::kPaged)
    return stride * blocks_of(slot.window, plan.shape) * plan.shape.sequences;
  return static_cast<uint64_t>(slot.n_values) * sizeof(float) * plan.shape.sequences;
}

// The ring takes an eighth of what there is, and no more than serves.
constexpr uint64_t kRingShare = 8, kRingBytes = 64u << 20;

uint64_t cell_bytes(const std::vector<SlotSpec>& slots) {
  uint64_t largest = 0;
  for (const SlotSpec& slot : slots)
    if (can_spill(slot)) largest = std::max(largest, kBlocksPerSplit * page_stride(slot, true));
  return largest;
}

uint64_t plan_bytes(const std::vector<SlotSpec>& slots, const StatePlan& plan) {
  uint64_t total =
      plan.ring_cells > 0 ? Buffer::held_bytes(plan.ring_cells * cell_bytes(slots)) : 0;
  for (const SlotSpec& slot : slots) total += Buffer::held_bytes(slot_bytes(slot, plan));
  return total;
}

// The first block that a token at `position` sees.
int64_t first_seen(int64_t window, int64_t position) {
  return window > 0 ? std::max<int64_t>(0, position - window + 1) / kPageTokens : 0;
}

}  // namespace

StatePlan plan_state(const std::vector<SlotSpec>& slots, const StateShape& shape, uint64_t limit) {
  StatePlan plan{.shape = shape};
  uint64_t per_block = 0;
  for (const SlotSpec& slot : slots)
    if (can_spill(slot)) per_block += page_stride(slot, true);
  if (per_block > 0) plan.blocks = plan.resident_blocks = blocks_of(0, shape) * shape.sequences;
  if (plan.shared()) plan.blocks = plan.resident_blocks = std::min(plan.blocks, shape.blocks);
  plan.bytes = plan_bytes(slots, plan);
  if (plan.shared()) return plan;
  // A step writes into blocks that may begin and end anywhere, and every sequence has one not yet
  // full.
  const int64_t least = rows_of(shape) / kPageTokens + 2 * shape.sequences;
  if (plan.bytes <= limit || plan.blocks <= least) return plan;
  plan.file_bytes = per_block * plan.blocks;
  const uint64_t cell = cell_bytes(slots);
  plan.ring_cells = static_cast<int>(
      std::clamp<uint64_t>(std::min(limit / kRingShare, kRingBytes) / cell, 2, 256));
  plan.resident_blocks = least;
  const uint64_t least_bytes = plan_bytes(slots, plan);
  if (least_bytes < limit)
    plan.resident_blocks = std::min<int64_t>(
        plan.blocks - 1, least + static_cast<int64_t>((limit - least_bytes) / per_block));
  // Whole pages of memory may take a little more.
  while (plan.resident_blocks > least && plan_bytes(slots, plan) > limit) --plan.resident_blocks;
  while (plan.ring_cells > 2 && plan_bytes(slots, plan) > limit) --plan.ring_cells;
  plan.bytes = plan_bytes(slots, plan);
  return plan;
}

Result<std::shared_ptr<StatePool>> StatePool::create(Ledger& ledger, std::vector<SlotSpec> slots,
                                                     const StatePlan& plan,
                                                     const std::string& place,
                                                     const DiskOptions& disk) {
  std::shared_ptr<StatePool> pool(new StatePool);
  pool->slots_ = std::move(slots);
  pool->plan_ = plan;
  const StateShape& shape = plan.shape;
  uint64_t file_end = 0;
  for (const SlotSpec& slot : pool->slots_) {
    pool->memory_.push_back(
        TRY(Buffer::allocate(ledger, slot_bytes(slot, plan), "sequence state")));
    pool->strides_.push_back(page_stride(slot, plan.spills() || plan.shared()));
    pool->file_begin_.push_back(file_end);
    if (can_spill(slot)) file_end += pool->strides_.back() * plan.blocks;
    if (slot.kind == SlotSpec::Kind::kRecurrent) {
      pool->group_of_.push_back(-1);
      continue;
    }
    size_t group = 0;
    while (group < pool->groups_.size() && pool->groups_[group].window != slot.window) ++group;
    pool->group_of_.push_back(static_cast<int>(group));
    if (group < pool->groups_.size()) continue;
    pool->groups_.push_back(
        {.window = slot.window, .blocks = blocks_of(slot.window, shape), .free_pages = {}});
    const int64_t pages =
        slot.window == 0 ? plan.resident_blocks : pool->groups_.back().blocks * shape.sequences;
    for (int64_t i = pages; i-- > 0;)
      pool->groups_.back().free_pages.push_back(static_cast<int32_t>(i));
  }
  pool->sequences_.resize(shape.sequences);
  for (size_t g = 0; plan.shared() && g < pool->groups_.size(); ++g)
    if (pool->groups_[g].window == 0) pool->shared_group_ = static_cast<int>(g);
  if (pool->shared_group_ >= 0) {
    pool->holders_.resize(plan.resident_blocks);
    pool->kept_.resize(plan.resident_blocks);
  }
  if (plan.spills()) {
    pool->file_.emplace(TRY(ScratchFile::create(place)));
    if (pool->file_->room() < plan.file_bytes)
      return error(
          Code::kOutOfBudget,
          "the state may take {} on disk, and {} has {} left; name another place (--spill)",
          format_bytes(plan.file_bytes), pool->file_->path(), format_bytes(pool->file_->room()));
    const uint64_t cell = cell_bytes(pool->slots_);
    Buffer cells = TRY(Buffer::allocate(ledger, plan.ring_cells * cell, "state read ahead"));
    pool->disk_ = TRY(DiskReader::create(disk));
    const int number = TRY(pool->disk_->add(pool->file_->file()));
    pool->ring_ = std::make_unique<PageRing>(*pool->disk_, number, std::move(cells), cell);
  }
  for (int i = shape.sequences; i-- > 0;) pool->free_sequences_.push_back(i);
  return pool;
}

Result<std::unique_ptr<SequenceState>> StatePool::new_sequence() {
  if (free_sequences_.empty())
    return error(Code::kOutOfBudget, "all planned sequences are in use; plan for more streams");
  const int32_t index = free_sequences_.back();
  free_sequences_.pop_back();
  std::unique_ptr<SequenceState> state(new SequenceState(shared_from_this(), index));
  sequences_[index] = state.get();
  state->tables_.resize(groups_.size());
  state->truncate(0);
  return state;
}

StatePool::~StatePool() = default;

PageRange StatePool::range(int slot, int32_t sequence, int64_t begin, int64_t end) const {
  const int64_t blocks = plan_.blocks / plan_.shape.sequences;
  return {.offset =
              file_begin_[slot] + static_cast<uint64_t>(sequence * blocks + begin) * strides_[slot],
          .bytes = static_cast<uint64_t>(end - begin) * strides_[slot]};
}

// Until as many pages are free: full blocks of whoever has most of them go to the file.
Status StatePool::make_room(Group& group, int64_t pages) {
  while (ring_ && static_cast<int64_t>(group.free_pages.size()) < pages) {
    SequenceState* most = nullptr;
    int64_t full = 0;
    for (SequenceState* sequence : sequences_) {
      if (!sequence) continue;
      const int64_t has =
          sequence->length_ / kPageTokens - sequence->tables_[&group - groups_.data()].first;
      if (has > full) full = has, most = sequence;
    }
    if (!most) return error(Code::kOutOfBudget, "no free page of sequence state is left");
    TRY(spill(*most, std::min(pages - static_cast<int64_t>(group.free_pages.size()), full)));
  }
  return {};
}

// The oldest blocks in memory.
Status StatePool::spill(SequenceState& sequence, int64_t blocks) {
  int group = -1;
  for (size_t slot = 0; slot < slots_.size(); ++slot) {
    if (!can_spill(slots_[slot])) continue;
    group = group_of_[slot];
    const SequenceState::Table& table = sequence.tables_[group];
    std::vector<std::span<const uint8_t>> pieces;
    for (int64_t i = 0; i < blocks; ++i)
      pieces.push_back({memory_[slot].data() + table.pages[i] * strides_[slot], strides_[slot]});
    const PageRange to =
        range(static_cast<int>(slot), sequence.index_, table.first, table.first + blocks);
    TRY(file_->write(to.offset, pieces));
    written_bytes_ += to.bytes;
  }
  SequenceState::Table& table = sequence.tables_[group];
  std::vector<int32_t>& free = groups_[group].free_pages;
  free.insert(free.end(), table.pages.begin(), table.pages.begin() + blocks);
  table.pages.erase(table.pages.begin(), table.pages.begin() + blocks);
  table.first += blocks;
  return {};
}

void StatePool::expect(std::span<SequenceState* const> sequences) {
  if (!ring_) return;
  std::vector<PageRange> ranges;
  for (size_t slot = 0; slot < slots_.size(); ++slot)
    for (const SequenceState* sequence : sequences)
      for (int64_t split = 0; split * kBlocksPerSplit < sequence->spilled(static_cast<int>(slot));
           ++split)
        ranges.push_back(sequence->spilled_range(static_cast<int>(slot), split));
  ring_->plan(std::move(ranges));
}

// ---- shared pages -------------------------------------------------------------------------------

bool StatePool::shares_prefixes() const {
  return shared_group_ >= 0 && std::all_of(slots_.begin(), slots_.end(), can_spill);
}

int64_t StatePool::pages_to_have() const {
  return static_cast<int64_t>(groups_[shared_group_].free_pages.size()) + idle_pages_;
}

int32_t StatePool::take_free(size_t group) {
  std::vector<int32_t>& free = groups_[group].free_pages;
  const int32_t page = free.back();
  free.pop_back();
  if (toucher_) toucher_->used(static_cast<int>(group), page);
  return page;
}

void StatePool::touch_ahead() {
  if (toucher_) return;
  std::vector<TouchAhead::Region> regions;
  for (size_t slot = 0; slot < slots_.size(); ++slot)
    regions.push_back({.begin = memory_[slot].data(), .bytes = memory_[slot].size(),
                       .stride = group_of_[slot] < 0 ? 0 : strides_[slot], .group = std::max(group_of_[slot], 0)});
  toucher_.emplace(std::move(regions), static_cast<int>(groups_.size()));
}

std::optional<int32_t> StatePool::take_page() {
  std::vector<int32_t>& free = groups_[shared_group_].free_pages;
  while (free.empty())
    if (!reclaim_ || !reclaim_()) return std::nullopt;
  const int32_t page = take_free(static_cast<size_t>(shared_group_));
  holders_[page] = 1;
  return page;
}

void StatePool::hold(int32_t page) {
  if (held_by_cache_alone(page)) --idle_pages_;
  ++holders_[page];
}

void StatePool::let_go(int32_t page) {
  assert(holders_[page] > 0);
  if (--holders_[page] == 0) groups_[shared_group_].free_pages.push_back(page);
  if (held_by_cache_alone(page)) ++idle_pages_;
}

void StatePool::keep(int32_t page) {
  assert(!kept_[page] && holders_[page] > 0);
  ++holders_[page];
  kept_[page] = true;
}

void StatePool::forget(int32_t page) {
  assert(kept_[page]);
  if (held_by_cache_alone(page)) --idle_pages_;
  kept_[page] = false;
  let_go(page);
}

void StatePool::copy_page(int32_t from, int32_t to) {
  for (size_t slot = 0; slot < slots_.size(); ++slot)
    if (can_spill(slots_[slot]))
      std::memcpy(page(slot, to).data(), page(slot, from).data(), strides_[slot]);
}

StateCounters StatePool::counters() const {
  if (!ring_) return {};
  return {.read_bytes = disk_->counters().bytes,
          .written_bytes = written_bytes_,
          .stalls = ring_->stalls(),
          .stall_seconds = ring_->stall_seconds()};
}

SequenceState::~SequenceState() {
  for (size_t g = 0; g < tables_.size(); ++g) cut(g, 0);
  pool_->sequences_[index_] = nullptr;
  pool_->free_sequences_.push_back(index_);
}

Status SequenceState::reserve(int64_t tokens) {
  if (tokens > pool_->plan_.shape.tokens)
    return error(Code::kOutOfBudget,
                 "{} tokens do not fit the context of {}; open the model with a larger one (-c)",
                 tokens, pool_->plan_.shape.tokens);
  if (pool_->shared_group_ >= 0 &&
      ceil_div(tokens, kPageTokens) - tables_[pool_->shared_group_].end() > pool_->pages_to_have())
    return error(Code::kOutOfBudget, "no free page of sequence state is left");
  // What has memory for a part only is planned for every sequence, and taken step by step.
  for (size_t g = 0; g < tables_.size(); ++g)
    if (pool_->groups_[g].window == 0 && !pool_->plan_.spills())
      TRY(grow(g, ceil_div(tokens, kPageTokens)));
  return {};
}

Status SequenceState::prepare(int64_t position, int64_t rows) {
  if (!keeps(position))
    return error(Code::kInvalidArgument,
                 "position {} sees tokens that the sequence of {} has given back", position,
                 length_);
  if (pool_->plan_.spills()) truncate(position);
  TRY(reserve(position + rows));
  const int64_t end = ceil_div(position + rows, kPageTokens);
  for (size_t g = 0; g < tables_.size(); ++g) {
    StatePool::Group& group = pool_->groups_[g];
    if (group.window == 0) {
      if (position / kPageTokens < tables_[g].first) TRY(bring_back(g, position / kPageTokens));
      TRY(pool_->make_room(group, end - tables_[g].end()));
      TRY(grow(g, end));
      if (static_cast<int>(g) == pool_->shared_group_ && position % kPageTokens > 0)
        TRY(own(g, position / kPageTokens));
      continue;
    }
    const int64_t seen = first_seen(group.window, position);
    if (end - seen > group.blocks)
      return error(Code::kOutOfBudget,
                   "a sequence was to grow by {} tokens in a step, {} were planned for", rows,
                   pool_->plan_.shape.rows);
    Table& table = tables_[g];
    for (; !table.pages.empty() && table.first < seen; ++table.first) {
      group.free_pages.push_back(table.pages.front());
      table.pages.erase(table.pages.begin());
    }
    if (table.pages.empty()) table.first = std::max(table.first, seen);
    TRY(grow(g, end));
  }
  return {};
}

Status SequenceState::grow(size_t group, int64_t end_block) {
  std::vector<int32_t>& free = pool_->groups_[group].free_pages;
  Table& table = tables_[group];
  while (static_cast<int>(group) == pool_->shared_group_ && table.end() < end_block) {
    const auto page = pool_->take_page();
    if (!page) return error(Code::kOutOfBudget, "no free page of sequence state is left");
    table.pages.push_back(*page);
  }
  while (table.end() < end_block) {
    if (free.empty()) return error(Code::kOutOfBudget, "no free page of sequence state is left");
    table.pages.push_back(pool_->take_free(group));
  }
  return {};
}

void SequenceState::cut(size_t group, int64_t end_block) {
  Table& table = tables_[group];
  for (; table.end() > end_block && !table.pages.empty(); table.pages.pop_back()) {
    if (static_cast<int>(group) == pool_->shared_group_) {
      pool_->let_go(table.pages.back());
    } else {
      pool_->groups_[group].free_pages.push_back(table.pages.back());
    }
  }
  if (!table.pages.empty() || table.first <= end_block) return;
  // What comes to lie in the file there will be something else.
  if (pool_->ring_) pool_->ring_->forget();
  table.first = end_block;
}

// A block that is written to is nobody else's.
Status SequenceState::own(size_t group, int64_t block) {
  int32_t& page = tables_[group].pages[block];
  if (pool_->holders_[page] == 1) return {};
  const auto copy = pool_->take_page();
  if (!copy) return error(Code::kOutOfBudget, "no free page of sequence state is left");
  pool_->copy_page(page, *copy);
  pool_->let_go(page);
  page = *copy;
  return {};
}

void SequenceState::adopt(std::vector<int32_t> pages, int64_t tokens) {
  Table& table = tables_[pool_->shared_group_];
  assert(length_ == 0 && table.pages.empty() &&
         ceil_div(tokens, kPageTokens) == static_cast<int64_t>(pages.size()));
  table.pages = std::move(pages);
  length_ = tokens;
}

// A block that was cut in the middle, and is the last one, from the file.
Status SequenceState::bring_back(size_t group, int64_t block) {
  Table& table = tables_[group];
  assert(table.first == block + 1 && table.pages.empty());
  TRY(pool_->make_room(pool_->groups_[group], 1));
  const int32_t page = pool_->groups_[group].free_pages.back();
  for (size_t slot = 0; slot < pool_->slots_.size(); ++slot) {
    if (pool_->group_of_[slot] != static_cast<int>(group)) continue;
    const PageRange range = pool_->range(static_cast<int>(slot), index_, block, block + 1);
    uint8_t* to = pool_->memory_[slot].data() + page * pool_->strides_[slot];
    TRY(pool_->disk_->read(0, range.offset, range.bytes, to));
  }
  pool_->groups_[group].free_pages.pop_back();
  table.pages.push_back(page);
  table.first = block;
  return {};
}

void SequenceState::set_length(int64_t tokens) {
  for (const Table& table : tables_) {
    assert(tokens <= table.end() * kPageTokens);
    (void)table;
  }
  length_ = tokens;
}

// What a token at `position` sees is still there.
bool SequenceState::keeps(int64_t position) const {
  for (size_t g = 0; g < tables_.size(); ++g)
    if (position > 0 && pool_->groups_[g].window > 0 &&
        tables_[g].first > first_seen(pool_->groups_[g].window, position))
      return false;
  return true;
}

bool SequenceState::whole() const {
  for (size_t g = 0; g < tables_.size(); ++g)
    if (pool_->groups_[g].window > 0 && tables_[g].first > 0) return false;
  return true;
}

bool SequenceState::truncate(int64_t tokens) {
  if (tokens > length_) return true;
  for (const SlotSpec& slot : pool_->slots_)
    if (slot.kind == SlotSpec::Kind::kRecurrent && tokens != 0 && tokens != length_) return false;
  if (!keeps(tokens)) return false;
  for (size_t i = 0; i < pool_->slots_.size() && tokens == 0; ++i)
    if (pool_->slots_[i].kind == SlotSpec::Kind::kRecurrent)
      std::memset(recurrent(static_cast<int>(i)), 0, pool_->slots_[i].n_values * sizeof(float));
  length_ = tokens;
  for (size_t g = 0; g < tables_.size(); ++g) cut(g, ceil_div(tokens, kPageTokens));
  return true;
}

uint16_t* SequenceState::key_page(int slot, int64_t block, int head) const {
  const SlotSpec& spec = pool_->slots_[slot];
  const Table& table = tables_[pool_->group_of_[slot]];
  assert(block >= table.first && block < table.end());
  uint8_t* page =
      pool_->memory_[slot].data() + table.pages[block - table.first] * pool_->strides_[slot];
  return reinterpret_cast<uint16_t*>(page + head * (spec.page_bytes() / spec.n_kv_heads));
}

uint16_t* SequenceState::value_page(int slot, int64_t block, int head) const {
  const SlotSpec& spec = pool_->slots_[slot];
  return key_page(slot, block, head) + key_page_elems(spec.k_dim);
}

bool SequenceState::may_spill(int slot) const {
  return pool_->ring_ && can_spill(pool_->slots_[slot]);
}

int64_t SequenceState::spilled(int slot) const {
  return may_spill(slot) ? tables_[pool_->group_of_[slot]].first : 0;
}

PageRange SequenceState::spilled_range(int slot, int64_t split) const {
  const int64_t begin = split * kBlocksPerSplit;
  return pool_->range(slot, index_, begin, std::min(begin + kBlocksPerSplit, spilled(slot)));
}

Result<const uint8_t*> SequenceState::fetch(int slot, int64_t split) {
  return pool_->ring_->acquire(spilled_range(slot, split));
}

void SequenceState::release() { pool_->ring_->release(); }

float* SequenceState::recurrent(int slot) const {
  return pool_->memory_[slot].as<float>() + index_ * pool_->slots_[slot].n_values;
}

}  // namespace venturi
