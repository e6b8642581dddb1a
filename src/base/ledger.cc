#include "base/ledger.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdlib>

namespace venturi {

Lease::Lease(Lease&& other) noexcept
    : ledger_(std::move(other.ledger_)), holder_(std::move(other.holder_)), bytes_(other.bytes_) {
  other.ledger_.reset();
  other.bytes_ = 0;
}

Lease& Lease::operator=(Lease&& other) noexcept {
  if (this != &other) {
    release();
    ledger_ = std::move(other.ledger_);
    holder_ = std::move(other.holder_);
    bytes_ = other.bytes_;
    other.ledger_.reset();
    other.bytes_ = 0;
  }
  return *this;
}

Lease::~Lease() { release(); }

void Lease::release() {
  if (ledger_) ledger_->give_back(holder_, bytes_);
  ledger_.reset();
  bytes_ = 0;
}

std::shared_ptr<Ledger> Ledger::create(uint64_t limit_bytes) {
  return std::shared_ptr<Ledger>(new Ledger(limit_bytes));
}

Result<Lease> Ledger::acquire(uint64_t bytes, std::string_view holder) {
  std::lock_guard lock(mutex_);
  if (bytes > limit_ - held_) {
    std::vector<std::pair<uint64_t, std::string>> rows;
    for (const auto& [name, held] : by_holder_) rows.emplace_back(held, name);
    std::sort(rows.rbegin(), rows.rend());
    std::string who;
    for (const auto& [held, name] : rows)
      who += fmt::format("{}{} {}", who.empty() ? "" : ", ", name, format_bytes(held));
    return error(Code::kOutOfBudget,
                 "the memory budget of {} is too small: {} asks for {}, {} are left{}{}",
                 format_bytes(limit_), holder, format_bytes(bytes), format_bytes(limit_ - held_),
                 who.empty() ? "" : "; held: ", who);
  }
  if (bytes == 0) return Lease();  // holds nothing, so there is nothing to give back
  held_ += bytes;
  peak_ = std::max(peak_, held_);
  by_holder_[std::string(holder)] += bytes;
  return Lease(shared_from_this(), std::string(holder), bytes);
}

void Ledger::give_back(const std::string& holder, uint64_t bytes) {
  std::lock_guard lock(mutex_);
  held_ -= bytes;
  auto it = by_holder_.find(holder);
  it->second -= bytes;
  if (it->second == 0) by_holder_.erase(it);
}

uint64_t Ledger::held() const {
  std::lock_guard lock(mutex_);
  return held_;
}

uint64_t Ledger::peak() const {
  std::lock_guard lock(mutex_);
  return peak_;
}

uint64_t Ledger::available() const {
  std::lock_guard lock(mutex_);
  return limit_ - held_;
}

std::vector<Holding> Ledger::holdings() const {
  std::lock_guard lock(mutex_);
  std::vector<Holding> rows;
  for (const auto& [name, bytes] : by_holder_) rows.push_back({name, bytes});
  std::sort(rows.begin(), rows.end(),
            [](const Holding& a, const Holding& b) { return a.bytes > b.bytes; });
  return rows;
}

std::string format_bytes(uint64_t bytes) {
  if (bytes == Ledger::kUnlimited) return "unlimited";
  if (bytes >= 1000000000) return fmt::format("{:.2f} GB", bytes / 1e9);
  if (bytes >= 1000000) return fmt::format("{:.1f} MB", bytes / 1e6);
  if (bytes >= 1000) return fmt::format("{:.1f} kB", bytes / 1e3);
  return fmt::format("{} B", bytes);
}

Result<uint64_t> parse_bytes(std::string_view text) {
  const auto bad = [&] {
    return error(Code::kInvalidArgument,
                 "'{}' is not an amount of bytes; write for instance 1500M, 2G, 1.5G or 2GiB", text);
  };
  const std::string copy(text);
  if (copy.empty() || !(std::isdigit(static_cast<unsigned char>(copy[0])) || copy[0] == '.')) return bad();
  if (copy.find_first_of("xXnN") != std::string::npos) return bad();  // strtod reads hex and nan
  char* end = nullptr;
  const double number = std::strtod(copy.c_str(), &end);
  std::string unit(end);
  for (char& c : unit) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  double scale = 0;
  const std::string prefixes = "kmgt";
  if (unit.empty() || unit == "b") {
    scale = 1;
  } else if (const size_t p = prefixes.find(unit[0]); p != std::string::npos) {
    const std::string rest = unit.substr(1);
    if (rest.empty() || rest == "b") scale = std::pow(1000.0, p + 1);
    if (rest == "ib") scale = std::pow(1024.0, p + 1);
  }
  // Half a byte is a unit that was forgotten.
  if (scale == 1 && number != std::floor(number))
    return error(Code::kInvalidArgument, "'{}' is not an amount of bytes; did you mean {}G?", text, number);
  const double bytes = number * scale;
  if (scale == 0 || !std::isfinite(bytes) || bytes < 1 || bytes > 9e18) return bad();
  return static_cast<uint64_t>(bytes);
}

}  // namespace venturi
