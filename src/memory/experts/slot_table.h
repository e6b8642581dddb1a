// Which experts a cache holds, and where: the bookkeeping that the cache and its simulation share.
// Threads: one at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace venturi {

class SlotTable {
 public:
  static constexpr int32_t kNone = -1;

  SlotTable(int64_t n_units, int64_t n_slots);

  int64_t n_slots() const { return static_cast<int64_t>(unit_of_.size()); }
  int32_t slot_of(int64_t unit) const { return slot_of_[static_cast<size_t>(unit)]; }
  int32_t unit_of(int64_t slot) const { return unit_of_[static_cast<size_t>(slot)]; }
  bool holds(int64_t unit) const { return slot_of(unit) != kNone; }

  // While a unit is locked it does not leave.
  void lock(int64_t unit) { ++locks_[static_cast<size_t>(unit)]; }
  void unlock(int64_t unit) { --locks_[static_cast<size_t>(unit)]; }

  // Gives `unit` (not held) a slot: a free one, else that of the unlocked unit of least worth; of
  // equal ones, the lowest. kNone when every unit is locked, or, if it `may_decline`, when `unit`
  // itself is worth no more than what would leave.
  int32_t place(int64_t unit, const std::function<double(int64_t unit)>& worth, bool may_decline = false);
  void drop(int64_t unit);

 private:
  std::vector<int32_t> slot_of_;  // [n_units]
  std::vector<int32_t> unit_of_;  // [n_slots]
  std::vector<int32_t> locks_;    // [n_units]
  std::vector<int32_t> free_;
};

}  // namespace venturi
