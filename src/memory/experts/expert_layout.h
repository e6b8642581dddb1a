// What an expert takes in a cache: one slot, the same for every expert of a model.
//
// A slot has a part for each of gate, up and down, as large as the blocks of the disk that cover the
// largest such plane of any layer. Where a format differs from layer to layer, slots are as large as
// the largest. Units: bytes.
#pragma once

#include <array>
#include <cstdint>

#include "memory/weights.h"

namespace venturi {

inline constexpr int kExpertParts = 3;  // gate, up, down

struct ExpertLayout {
  int64_t n_layers = 0, n_experts = 0;
  std::array<uint64_t, kExpertParts> part_begin{};
  uint64_t slot_bytes = 0;
  uint64_t scratch_bytes = 0;  // for interleaving what has been read, kPackers times a run of rows
  static constexpr int kPackers = 8;

  // Nothing when the model has no experts, or has some that cannot be read piecewise (can_stream).
  static std::optional<ExpertLayout> of(const WeightCatalog& catalog);

  int64_t units() const { return n_layers * n_experts; }
  uint64_t cache_bytes(int64_t slots) const { return scratch_bytes + static_cast<uint64_t>(slots) * slot_bytes; }
  int64_t slots_in(uint64_t bytes) const {
    return bytes <= scratch_bytes ? 0 : static_cast<int64_t>((bytes - scratch_bytes) / slot_bytes);
  }
};

inline const Weight& part_of(const ExpertStack& stack, int part) {
  return *(part == 0 ? stack.gate : part == 1 ? stack.up : stack.down);
}

// Whether a plane can be interleaved where it lies: as large then as before.
bool packs_in_place(const Weight& weight);
// Interleaves a plane in place, whose first row is at `rows`; returns where it begins afterwards, on 64 bytes
// at or before `rows`. `scratch` is ExpertLayout::scratch_bytes.
uint8_t* pack_in_place(const Weight& weight, uint8_t* rows, uint8_t* scratch, ThreadPool& pool);

}  // namespace venturi
