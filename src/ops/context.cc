#include "ops/context.h"

#include <algorithm>
#include <cassert>

#include "base/checked.h"

namespace venturi {

Act& Act::operator=(Act&& other) noexcept {
  if (this != &other) {
    reset();
    context_ = std::exchange(other.context_, nullptr);
    offset_ = other.offset_;
    block_ = std::exchange(other.block_, -1);
    rows_ = std::exchange(other.rows_, 0);
    cols_ = std::exchange(other.cols_, 0);
    data_ = std::exchange(other.data_, nullptr);
  }
  return *this;
}

void Act::reset() {
  if (context_) context_->free(offset_);
  context_ = nullptr;
  block_ = -1;
  data_ = nullptr;
  rows_ = cols_ = 0;
}

Act Act::view(int64_t begin, int64_t n) {
  Act part;
  part.block_ = block_;
  part.rows_ = n;
  part.cols_ = cols_;
  part.data_ = data_ ? row(begin) : nullptr;
  return part;
}

std::unique_ptr<Context> Context::shape(int threads) {
  std::unique_ptr<Context> context(new Context);
  context->threads_ = threads;
  context->arena_.record(true);
  return context;
}

Result<std::unique_ptr<Context>> Context::run(std::shared_ptr<Ledger> ledger, std::shared_ptr<ThreadPool> pool,
                                              uint64_t arena_bytes) {
  std::unique_ptr<Context> context(new Context);
  context->memory_ = TRY(Buffer::allocate(*ledger, arena_bytes, "activations"));
  context->threads_ = pool->size();
  context->ledger_ = std::move(ledger);
  context->pool_ = std::move(pool);
  return context;
}

Act Context::allocate(int64_t rows, int64_t cols) {
  Act act;
  const uint64_t bytes = static_cast<uint64_t>(rows) * static_cast<uint64_t>(cols) * sizeof(float);
  act.context_ = this;
  act.rows_ = rows;
  act.cols_ = cols;
  if (inner_) {
    const uint64_t at = inner_->arena.allocate(bytes);
    if (at + bytes <= inner_->bytes) {
      act.offset_ = inner_->begin + at;
      if (inner_->block.data_) act.data_ = inner_->block.data_ + at / sizeof(float);
      return act;
    }
    inner_->arena.free(at);
  }
  act.offset_ = arena_.allocate(bytes);
  act.block_ = arena_.n_recorded() - 1;
  if (!computes()) return act;
  if (act.offset_ + bytes <= memory_.size()) {
    act.data_ = reinterpret_cast<float*>(memory_.data() + act.offset_);
    return act;
  }
  // A step of another shape than the largest fragments the arena; the ledger may still have room.
  auto extra = Buffer::allocate(*ledger_, bytes, "activations");
  if (!extra) {
    fail(std::move(extra).error());
    return act;
  }
  act.data_ = extra->as<float>();
  overflow_[act.offset_] = std::move(extra).value();
  return act;
}

void Context::free(uint64_t offset) {
  if (inner_ && offset - inner_->begin < inner_->bytes) return inner_->arena.free(offset - inner_->begin);
  arena_.free(offset);
  if (!overflow_.empty()) overflow_.erase(offset);
}

void Context::keep_rows(std::span<const int64_t> rows) {
  if (row_adapters_.empty()) return;
  std::vector<const Adapter*> kept;
  for (const int64_t row : rows) kept.push_back(row_adapters_[static_cast<size_t>(row)]);
  set_row_adapters(std::move(kept));
}

Context::Workspace::Workspace(Context& context, uint64_t bytes) {
  if (context.inner_ || bytes == 0) return;
  context_ = &context;
  Act block = context.scratch_bytes(static_cast<int64_t>(bytes));
  const uint64_t begin = block.offset_;
  context.inner_.emplace(Inner{std::move(block), begin, aligned_block_bytes(bytes), {}, {}});
  context.inner_->group.emplace(context);
}

Context::Workspace::~Workspace() {
  if (!context_) return;
  const Act block = std::move(context_->inner_->block);
  context_->inner_.reset();
}

void Context::record(std::string_view op, Acts reads, Acts writes) {
  OpAccess access{.op = op, .reads = {}, .writes = {}, .after = std::exchange(follows_, {}),
                  .n_blocks = arena_.n_recorded(), .time = arena_.now(), .group = group_};
  for (const Act* act : reads)
    if (act && act->block_ >= 0) access.reads.push_back(act->block_);
  for (const Act* act : writes)
    if (act->block_ >= 0) access.writes.push_back(act->block_);
  accesses_.push_back(std::move(access));
}

void Context::also_writes(const Act& act) {
  if (!pool_ && act.block_ >= 0) accesses_.back().writes.push_back(act.block_);
}

Context::Group::Group(Context& context, Acts reads, Acts writes) {
  if (context.pool_) return;
  if (context.group_ < 0) {
    context_ = &context;
    context.group_ = context.n_groups_++;
  }
  context.record("group", reads, writes);
}

Context::Group::~Group() {
  if (context_) context_->group_ = -1;
}

Context::Scope::Scope(Context& context, const OpCost& cost, Acts reads, Acts writes) : context_(context), op_(cost.op) {
  if (!context.pool_) {
    context.costs_.push_back(cost);
    context.record(cost.op, reads, writes);
    return;
  }
  if (!context.computes() || !context.profiling_) return;
  OpTotals& totals = context.totals_[op_];
  ++totals.calls;
  totals.weight_bytes += cost.weight_bytes;
  totals.state_bytes += cost.state_bytes;
  totals.int8_macs += cost.int8_macs;
  totals.f32_macs += cost.f32_macs;
  begin_ = now_seconds();
}

Context::Scope::~Scope() {
  if (context_.computes() && context_.profiling_) context_.totals_[op_].seconds += now_seconds() - begin_;
}

}  // namespace venturi
