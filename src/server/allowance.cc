#include "server/allowance.h"

#include <algorithm>

namespace venturi::server {

Allowance::Allowance(std::shared_ptr<Ledger> ledger)
    : ledger_(std::move(ledger)),
      most_blocks_((ledger_->limit() == Ledger::kUnlimited ? kMost : std::min(kMost, ledger_->limit() / 4)) / kBlock) {}

std::shared_ptr<Allowance> Allowance::create(std::shared_ptr<Ledger> ledger) {
  return std::shared_ptr<Allowance>(new Allowance(std::move(ledger)));
}

std::optional<Allowance::Share> Allowance::take(uint64_t bytes, Kind kind) {
  const std::lock_guard lock(mutex_);
  const uint64_t kept = kept_from(kind);
  if (bytes > kOwn + most_blocks_ * kBlock) return std::nullopt;
  while (held_ + bytes + kept > room()) {
    auto block = blocks_.size() < most_blocks_ ? ledger_->acquire(kBlock, "clients") : error(Code::kOutOfBudget, "");
    if (!block) {
      trim();
      return std::nullopt;
    }
    blocks_.push_back(std::move(block).value());
  }
  held_ += bytes;
  return Share(shared_from_this(), bytes);
}

void Allowance::give_back(uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  held_ -= bytes;
  trim();
}

void Allowance::trim() {
  while (!blocks_.empty() && held_ + kBlock <= room()) blocks_.pop_back();
}

uint64_t Allowance::held() const {
  const std::lock_guard lock(mutex_);
  return held_;
}

uint64_t Allowance::most(Kind kind) const {
  const std::lock_guard lock(mutex_);
  uint64_t blocks = most_blocks_;
  if (ledger_->limit() != Ledger::kUnlimited) blocks = std::min(blocks, blocks_.size() + ledger_->available() / kBlock);
  return kOwn - kept_from(kind) + blocks * kBlock;
}

}  // namespace venturi::server
