// The memory ledger: one limit, and every large allocation a lease drawn from it.
//
// Weights, sequence state, activations, staging and caches ask the ledger before they ask the
// operating system, so what does not fit is an Error that says who asked, who holds what and how
// much is left, never a visit of the OOM killer. Contract: peak RSS <= limit + 64 MB.
// Threads: every member may be called from any thread.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace venturi {

class Ledger;

// Bytes held until destruction. Movable; keeps its ledger alive.
class Lease {
 public:
  Lease() = default;
  Lease(Lease&& other) noexcept;
  Lease& operator=(Lease&& other) noexcept;
  ~Lease();

  uint64_t bytes() const { return bytes_; }
  void release();

 private:
  friend class Ledger;
  Lease(std::shared_ptr<Ledger> ledger, std::string holder, uint64_t bytes)
      : ledger_(std::move(ledger)), holder_(std::move(holder)), bytes_(bytes) {}

  std::shared_ptr<Ledger> ledger_;
  std::string holder_;
  uint64_t bytes_ = 0;
};

struct Holding {
  std::string holder;
  uint64_t bytes;
};

class Ledger : public std::enable_shared_from_this<Ledger> {
 public:
  static constexpr uint64_t kUnlimited = UINT64_MAX;
  static std::shared_ptr<Ledger> create(uint64_t limit_bytes = kUnlimited);

  // Code::kOutOfBudget, with a message that names `holder` and every holding, when
  // held() + bytes would pass the limit.
  Result<Lease> acquire(uint64_t bytes, std::string_view holder);

  uint64_t limit() const { return limit_; }
  uint64_t held() const;
  uint64_t peak() const;
  uint64_t available() const;
  std::vector<Holding> holdings() const;  // largest first

 private:
  friend class Lease;
  explicit Ledger(uint64_t limit) : limit_(limit) {}
  void give_back(const std::string& holder, uint64_t bytes);

  const uint64_t limit_;
  mutable std::mutex mutex_;
  uint64_t held_ = 0;
  uint64_t peak_ = 0;
  std::map<std::string, uint64_t> by_holder_;
};

// "1.50 GB", "382 MB", "12 kB": for messages. Decimal units.
std::string format_bytes(uint64_t bytes);

// "2G", "1500M", "800k", "123456", "1.5G", "2GiB" -> bytes. Decimal units unless spelt "KiB", "MiB", "GiB".
Result<uint64_t> parse_bytes(std::string_view text);

}  // namespace venturi
