#include "memory/eviction/eviction.h"

#include "eviction_registry.inc"

namespace venturi {

std::span<const Eviction* const> all_evictions() { return kAll_Eviction; }

const Eviction* find_eviction(std::string_view name) {
  for (const Eviction* eviction : all_evictions())
    if (eviction->name == name) return eviction;
  return nullptr;
}

}  // namespace venturi
