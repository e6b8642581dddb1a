#include "cache/state.h"

#include <cassert>
#include <cstring>

#include "base/checked.h"

namespace venturi {

uint64_t state_bytes(const std::vector<SlotSpec>& slots, int64_t tokens, int sequences) {
  uint64_t total = 0;
  for (const SlotSpec& slot : slots)
    total += Buffer::held_bytes(slot.kind == SlotSpec::Kind::kPaged
                                    ? slot.page_bytes() * ceil_div(tokens, kPageTokens) * sequences
                                    : static_cast<uint64_t>(slot.n_values) * sizeof(float) * sequences);
  return total;
}

Result<std::shared_ptr<StatePool>> StatePool::create(Ledger& ledger, std::vector<SlotSpec> slots, int64_t tokens,
                                                     int sequences) {
  std::shared_ptr<StatePool> pool(new StatePool);
  pool->slots_ = std::move(slots);
  pool->tokens_ = tokens;
  pool->n_pages_ = ceil_div(tokens, kPageTokens) * sequences;
  for (const SlotSpec& slot : pool->slots_) {
    const bool paged = slot.kind == SlotSpec::Kind::kPaged;
    const uint64_t bytes = paged ? slot.page_bytes() * pool->n_pages_
                                 : static_cast<uint64_t>(slot.n_values) * sizeof(float) * sequences;
    pool->memory_.push_back(TRY(Buffer::allocate(ledger, bytes, "sequence state")));
  }
  for (int64_t i = pool->n_pages_; i-- > 0;) pool->free_pages_.push_back(static_cast<int32_t>(i));
  for (int i = sequences; i-- > 0;) pool->free_sequences_.push_back(i);
  return pool;
}

Result<std::unique_ptr<SequenceState>> StatePool::new_sequence() {
  if (free_sequences_.empty())
    return error(Code::kOutOfBudget, "all planned sequences are in use; plan for more streams");
  const int32_t index = free_sequences_.back();
  free_sequences_.pop_back();
  std::unique_ptr<SequenceState> state(new SequenceState(shared_from_this(), index));
  state->truncate(0);
  return state;
}

SequenceState::~SequenceState() {
  for (const int32_t page : pages_) pool_->free_pages_.push_back(page);
  pool_->free_sequences_.push_back(index_);
}

Status SequenceState::reserve(int64_t tokens) {
  if (tokens > pool_->tokens_)
    return error(Code::kOutOfBudget, "{} tokens do not fit the context of {}; open the model with a larger one (-c)",
                 tokens, pool_->tokens_);
  while (static_cast<int64_t>(pages_.size()) * kPageTokens < tokens) {
    if (pool_->free_pages_.empty()) return error(Code::kOutOfBudget, "no free page of sequence state is left");
    pages_.push_back(pool_->free_pages_.back());
    pool_->free_pages_.pop_back();
  }
  return {};
}

void SequenceState::set_length(int64_t tokens) {
  assert(tokens <= static_cast<int64_t>(pages_.size()) * kPageTokens);
  length_ = tokens;
}

bool SequenceState::truncate(int64_t tokens) {
  if (tokens > length_) return true;
  for (size_t i = 0; i < pool_->slots_.size(); ++i) {
    if (pool_->slots_[i].kind != SlotSpec::Kind::kRecurrent) continue;
    if (tokens != 0 && tokens != length_) return false;
    if (tokens == 0) std::memset(recurrent(static_cast<int>(i)), 0, pool_->slots_[i].n_values * sizeof(float));
  }
  length_ = tokens;
  while (static_cast<int64_t>(pages_.size()) > ceil_div(tokens, kPageTokens)) {
    pool_->free_pages_.push_back(pages_.back());
    pages_.pop_back();
  }
  return true;
}

uint16_t* SequenceState::key_page(int slot, int64_t block, int head) const {
  const SlotSpec& spec = pool_->slots_[slot];
  uint8_t* page = pool_->memory_[slot].data() + pages_[block] * spec.page_bytes();
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
