#include "cache/state.h"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "base/checked.h"

namespace venturi {

namespace {

// Blocks that a sequence holds at most: with a window, what the first row of a step sees and the step's
// rows, wherever in a block they begin.
int64_t blocks_of(int64_t window, const StateShape& shape) {
  const int64_t all = ceil_div(shape.tokens, kPageTokens);
  if (window == 0) return all;
  const int64_t rows = shape.rows > 0 ? std::min(shape.rows, shape.tokens) : shape.tokens;
  const int64_t seen = std::min(window, shape.tokens) - 1 + rows;
  return std::min(all, ceil_div(seen - 1, kPageTokens) + 1);
}

uint64_t slot_bytes(const SlotSpec& slot, const StateShape& shape) {
  if (slot.kind == SlotSpec::Kind::kPaged) return slot.page_bytes() * blocks_of(slot.window, shape) * shape.sequences;
  return static_cast<uint64_t>(slot.n_values) * sizeof(float) * shape.sequences;
}

// The first block that a token at `position` sees.
int64_t first_seen(int64_t window, int64_t position) {
  return window > 0 ? std::max<int64_t>(0, position - window + 1) / kPageTokens : 0;
}

}  // namespace

uint64_t state_bytes(const std::vector<SlotSpec>& slots, const StateShape& shape) {
  uint64_t total = 0;
  for (const SlotSpec& slot : slots) total += Buffer::held_bytes(slot_bytes(slot, shape));
  return total;
}

Result<std::shared_ptr<StatePool>> StatePool::create(Ledger& ledger, std::vector<SlotSpec> slots,
                                                     const StateShape& shape) {
  std::shared_ptr<StatePool> pool(new StatePool);
  pool->slots_ = std::move(slots);
  pool->shape_ = shape;
  for (const SlotSpec& slot : pool->slots_) {
    pool->memory_.push_back(TRY(Buffer::allocate(ledger, slot_bytes(slot, shape), "sequence state")));
    if (slot.kind == SlotSpec::Kind::kRecurrent) {
      pool->group_of_.push_back(-1);
      continue;
    }
    size_t group = 0;
    while (group < pool->groups_.size() && pool->groups_[group].window != slot.window) ++group;
    pool->group_of_.push_back(static_cast<int>(group));
    if (group < pool->groups_.size()) continue;
    pool->groups_.push_back({.window = slot.window, .blocks = blocks_of(slot.window, shape), .free_pages = {}});
    for (int64_t i = pool->groups_.back().blocks * shape.sequences; i-- > 0;)
      pool->groups_.back().free_pages.push_back(static_cast<int32_t>(i));
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
  state->tables_.resize(groups_.size());
  state->truncate(0);
  return state;
}

SequenceState::~SequenceState() {
  for (size_t g = 0; g < tables_.size(); ++g) cut(g, 0);
  pool_->free_sequences_.push_back(index_);
}

Status SequenceState::reserve(int64_t tokens) {
  if (tokens > pool_->shape_.tokens)
    return error(Code::kOutOfBudget, "{} tokens do not fit the context of {}; open the model with a larger one (-c)",
                 tokens, pool_->shape_.tokens);
  // Windows are planned for every sequence, and taken step by step.
  for (size_t g = 0; g < tables_.size(); ++g)
    if (pool_->groups_[g].window == 0) TRY(grow(g, ceil_div(tokens, kPageTokens)));
  return {};
}

Status SequenceState::prepare(int64_t position, int64_t rows) {
  if (!keeps(position))
    return error(Code::kInvalidArgument, "position {} sees tokens that the sequence of {} has given back", position,
                 length_);
  TRY(reserve(position + rows));
  const int64_t end = ceil_div(position + rows, kPageTokens);
  for (size_t g = 0; g < tables_.size(); ++g) {
    StatePool::Group& group = pool_->groups_[g];
    if (group.window == 0) continue;
    const int64_t seen = first_seen(group.window, position);
    if (end - seen > group.blocks)
      return error(Code::kOutOfBudget, "a sequence was to grow by {} tokens in a step, {} were planned for", rows,
                   pool_->shape_.rows);
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
  while (table.end() < end_block) {
    if (free.empty()) return error(Code::kOutOfBudget, "no free page of sequence state is left");
    table.pages.push_back(free.back());
    free.pop_back();
  }
  return {};
}

void SequenceState::cut(size_t group, int64_t end_block) {
  Table& table = tables_[group];
  for (; table.end() > end_block && !table.pages.empty(); table.pages.pop_back())
    pool_->groups_[group].free_pages.push_back(table.pages.back());
  if (table.pages.empty()) table.first = std::min(table.first, end_block);
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
    if (position > 0 && tables_[g].first > first_seen(pool_->groups_[g].window, position)) return false;
  return true;
}

bool SequenceState::whole() const {
  return std::all_of(tables_.begin(), tables_.end(), [](const Table& table) { return table.first == 0; });
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
  uint8_t* page = pool_->memory_[slot].data() + table.pages[block - table.first] * spec.page_bytes();
  return reinterpret_cast<uint16_t*>(page + head * (spec.page_bytes() / spec.n_kv_heads));
}

uint16_t* SequenceState::value_page(int slot, int64_t block, int head) const {
  const SlotSpec& spec = pool_->slots_[slot];
  return key_page(slot, block, head) + key_page_elems(spec.k_dim);
}

float* SequenceState::recurrent(int slot) const {
  return pool_->memory_[slot].as<float>() + index_ * pool_->slots_[slot].n_values;
}

}  // namespace venturi
