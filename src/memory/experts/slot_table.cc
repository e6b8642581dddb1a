#include "memory/experts/slot_table.h"

#include <cassert>

namespace venturi {

SlotTable::SlotTable(int64_t n_units, int64_t n_slots)
    : slot_of_(static_cast<size_t>(n_units), kNone),
      unit_of_(static_cast<size_t>(n_slots), kNone),
      locks_(static_cast<size_t>(n_units)) {
  for (int64_t slot = n_slots; slot-- > 0;) free_.push_back(static_cast<int32_t>(slot));
}

int32_t SlotTable::place(int64_t unit, const std::function<double(int64_t)>& worth,
                         bool may_decline) {
  assert(!holds(unit));
  if (free_.empty()) {
    int32_t victim = kNone;
    double least = 0;
    for (const int32_t held : unit_of_) {
      if (held == kNone || locks_[static_cast<size_t>(held)] > 0) continue;
      const double w = worth(held);
      if (victim == kNone || w < least || (w == least && held < victim)) {
        victim = held;
        least = w;
      }
    }
    if (victim == kNone || (may_decline && worth(unit) <= least)) return kNone;
    drop(victim);
  }
  const int32_t slot = free_.back();
  free_.pop_back();
  slot_of_[static_cast<size_t>(unit)] = slot;
  unit_of_[static_cast<size_t>(slot)] = static_cast<int32_t>(unit);
  return slot;
}

void SlotTable::drop(int64_t unit) {
  const int32_t slot = slot_of(unit);
  slot_of_[static_cast<size_t>(unit)] = kNone;
  unit_of_[static_cast<size_t>(slot)] = kNone;
  free_.push_back(slot);
}

}  // namespace venturi
