// Where blocks of memory with known lifetimes lie in one arena: dynamic storage allocation.
//
// A block occupies [offset, offset + bytes) while begin <= t < end; two blocks that are live at one
// time may not overlap. The peak is the highest byte any block reaches. No placement is below
// live_peak(), the most bytes live at one time, and some blocks cannot reach it.
//
// Three ways to place: first fit in the order in which the program asks (what an arena without
// foresight does), greedy over known lifetimes, and the exact optimum. The exact one is the
// placement half of COSMA's integer program (arXiv 2311.18246: integer addresses, one binary "above
// or below" for each pair that is live together) solved by branch and bound; a test solves the
// program itself and compares.
// Pure functions; sizes and offsets are multiples of kBlockAlign once aligned_block_bytes was used.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace venturi {

struct Block {
  uint64_t bytes = 0;
  int64_t begin = 0, end = 0;  // live at t in [begin, end)
  bool live_with(const Block& other) const { return begin < other.end && other.begin < end; }
  bool operator==(const Block&) const = default;
};

inline constexpr uint64_t kBlockAlign = 64;
uint64_t aligned_block_bytes(uint64_t bytes);  // at least kBlockAlign

struct Placement {
  std::vector<uint64_t> offsets;  // of each block
  uint64_t peak = 0;
};

uint64_t live_peak(std::span<const Block> blocks);
// Every two blocks that live together are apart, and the peak is what the blocks reach.
bool is_valid(std::span<const Block> blocks, const Placement& placement);

// Blocks in order of begin, each at the lowest hole among those that are live then.
Placement place_first_fit(std::span<const Block> blocks);
// Each at the lowest hole among all it ever lives with; the best of three orders: largest first,
// longest-lived first, and by area (bytes times lifetime).
Placement place_greedy(std::span<const Block> blocks);

struct ExactPlacement {
  Placement placement = {};  // never worse than first fit and greedy
  uint64_t bound = 0;    // no placement has a lower peak
  bool proved = false;   // placement.peak == bound
  int64_t nodes = 0;     // of the search
};
// Blocks that live together in runs (the layers of a network) are searched run by run around the
// block that outlives them. Past `max_nodes` of a run the best found so far is returned, unproved.
ExactPlacement place_exact(std::span<const Block> blocks, int64_t max_nodes = 200'000);

}  // namespace venturi
