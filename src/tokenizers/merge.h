// Byte-pair merging: neighbours are joined in order of rank, leftmost first, until no pair has one.
//
// Symbols are a linked list over a text, the candidate pairs a heap of 64-bit keys, so n symbols
// cost O(n log n) whatever the text. A key is (rank, index of the left symbol); it is stale, and
// skipped, when that symbol's present pair has another rank.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <vector>

namespace venturi {

struct MergeSymbol {
  static constexpr uint32_t kNoRank = ~uint32_t{0};

  int32_t id;      // of the token it spells; what -1 means is the scheme's business
  uint32_t begin;  // bytes [begin, end) of the text
  uint32_t end;
  int32_t prev = -1;  // -1 at the ends
  int32_t next = -1;
  uint32_t rank = kNoRank;  // of the pair with `next`; smaller merges earlier
  int32_t merged = -1;      // the id that pair becomes
};

struct PairMerge {
  uint32_t rank = MergeSymbol::kNoRank;
  int32_t id = -1;
};

struct MergeWorkspace {
  std::vector<MergeSymbol> symbols;
  std::vector<uint64_t> heap;
};

// Merges the symbols in place; afterwards the list from symbols[0] along `next` is the result.
// find(left, right) gives the PairMerge of two neighbours. `prev` and `next` are set here.
template <typename Find>
void merge_symbols(MergeWorkspace& work, const Find& find) {
  auto& symbols = work.symbols;
  auto& heap = work.heap;
  heap.clear();
  const auto look_up = [&](int32_t i) {
    MergeSymbol& left = symbols[i];
    const PairMerge pair = left.next < 0 ? PairMerge{} : find(left, symbols[left.next]);
    left.rank = pair.rank;
    left.merged = pair.id;
    if (pair.rank == MergeSymbol::kNoRank) return false;
    heap.push_back(uint64_t{pair.rank} << 32 | static_cast<uint32_t>(i));
    return true;
  };

  const int32_t n = static_cast<int32_t>(symbols.size());
  for (int32_t i = 0; i < n; ++i) {
    symbols[i].prev = i - 1;
    symbols[i].next = i + 1 < n ? i + 1 : -1;
  }
  for (int32_t i = 0; i + 1 < n; ++i) look_up(i);
  std::make_heap(heap.begin(), heap.end(), std::greater<>());

  while (!heap.empty()) {
    const uint64_t key = heap.front();
    std::pop_heap(heap.begin(), heap.end(), std::greater<>());
    heap.pop_back();
    const int32_t i = static_cast<int32_t>(key & 0xFFFFFFFF);
    MergeSymbol& left = symbols[i];
    if (left.rank != key >> 32) continue;

    MergeSymbol& right = symbols[left.next];
    left.id = left.merged;
    left.end = right.end;
    left.next = right.next;
    right.rank = MergeSymbol::kNoRank;
    if (left.next >= 0) symbols[left.next].prev = i;
    if (look_up(i)) std::push_heap(heap.begin(), heap.end(), std::greater<>());
    if (left.prev >= 0 && look_up(left.prev))
      std::push_heap(heap.begin(), heap.end(), std::greater<>());
  }
}

}  // namespace venturi
