// Slots for what a visit of a layer misses: what the cache and its simulation share beside the table.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "memory/experts/slot_table.h"

namespace venturi {

// Gives each of `missed` a slot, in turn, and says so by placed(unit, slot). `held` are the units that the visit needs and
// finds. With `together`, none of either leaves for another of them while there is something else to leave, so that all of
// them can be read at once.
template <typename Placed>
void place_missed(SlotTable& table, std::span<const int64_t> held, std::span<const int64_t> missed,
                  const std::function<double(int64_t)>& worth, bool may_decline, bool together, Placed placed) {
  std::vector<int64_t> locked;
  const auto lock = [&](int64_t unit) {
    if (!together) return;
    table.lock(unit);
    locked.push_back(unit);
  };
  const auto unlock = [&] {
    for (const int64_t unit : locked) table.unlock(unit);
    locked.clear();
  };
  for (const int64_t unit : held) lock(unit);
  for (const int64_t unit : missed) {
    int32_t slot = table.place(unit, worth, may_decline);
    if (slot == SlotTable::kNone && together) {  // the visit is larger than the cache
      unlock();
      together = false;
      slot = table.place(unit, worth, may_decline);
    }
    placed(unit, slot);
    if (slot != SlotTable::kNone) lock(unit);
  }
  unlock();
}

}  // namespace venturi
