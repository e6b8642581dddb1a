// What clients may make the server hold: headers, bodies and what is made of them, and answers that wait to be read.
//
// One allowance for all connections. A fixed part of it lies in the 64 MB that the budget leaves a program for
// itself; beyond that it is drawn from the ledger, block by block, up to a quarter of the budget. What finds no room
// is refused. So that a few large bodies keep nobody out, they leave half of the fixed part to others, and all
// bodies a quarter to answers. Threads: every member may be called from any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "base/ledger.h"

namespace venturi::server {

class Allowance : public std::enable_shared_from_this<Allowance> {
 public:
  static constexpr uint64_t kOwn = 8u << 20, kBlock = 1u << 20;
  static constexpr uint64_t kMost = 512u << 20;  // from a ledger without a limit
  static constexpr uint64_t kOrdinaryBody = 256u << 10;
  // A body is held as it came, parsed, and as what its route makes of it.
  static constexpr uint64_t kCopies = 3;

  enum class Kind { kLarge, kOrdinary, kAnswer };

  // Bytes held until destruction; movable.
  class Share {
   public:
    Share() = default;
    Share(Share&& other) noexcept : of_(std::move(other.of_)), bytes_(std::exchange(other.bytes_, 0)) {}
    Share& operator=(Share&& other) noexcept {
      if (this != &other) {
        release();
        of_ = std::move(other.of_);
        bytes_ = std::exchange(other.bytes_, 0);
      }
      return *this;
    }
    ~Share() { release(); }
    uint64_t bytes() const { return bytes_; }
    void release() {
      if (of_) of_->give_back(bytes_);
      of_.reset();
      bytes_ = 0;
    }
    // Of one allowance.
    void add(Share&& more) {
      if (!of_) of_ = more.of_;
      bytes_ += std::exchange(more.bytes_, 0);
      more.of_.reset();
    }

   private:
    friend class Allowance;
    Share(std::shared_ptr<Allowance> of, uint64_t bytes) : of_(std::move(of)), bytes_(bytes) {}
    std::shared_ptr<Allowance> of_;
    uint64_t bytes_ = 0;
  };

  static std::shared_ptr<Allowance> create(std::shared_ptr<Ledger> ledger);

  // None where there is no room now.
  std::optional<Share> take(uint64_t bytes, Kind kind);
  // For `more` of a body that will be `whole` bytes.
  std::optional<Share> take_body(uint64_t more, uint64_t whole) {
    return take(kCopies * more, whole > kOrdinaryBody ? Kind::kLarge : Kind::kOrdinary);
  }
  uint64_t held() const;
  // The most that there could be for one request if no other held anything; what is more is not worth waiting for.
  // What models hold counts as theirs for good.
  uint64_t most(Kind kind) const;
  uint64_t largest_body() const { return most(Kind::kLarge) / kCopies; }

 private:
  explicit Allowance(std::shared_ptr<Ledger> ledger);
  void give_back(uint64_t bytes);
  static constexpr uint64_t kept_from(Kind kind) {
    return kind == Kind::kLarge ? kOwn / 2 : kind == Kind::kOrdinary ? kOwn / 4 : 0;
  }
  uint64_t room() const { return kOwn + blocks_.size() * kBlock; }
  void trim();

  const std::shared_ptr<Ledger> ledger_;
  const uint64_t most_blocks_;
  mutable std::mutex mutex_;
  uint64_t held_ = 0;
  std::vector<Lease> blocks_;
};

}  // namespace venturi::server
