#include "tokenizers/merge.h"

#include <gtest/gtest.h>

#include <map>
#include <optional>

#include "base/random.h"

namespace venturi {
namespace {

using Ranks = std::map<std::pair<int32_t, int32_t>, PairMerge>;

PairMerge look_up(const Ranks& ranks, int32_t left, int32_t right) {
  const auto hit = ranks.find({left, right});
  return hit == ranks.end() ? PairMerge{} : hit->second;
}

// The definition: look at all pairs, merge the best and leftmost, again and again.
std::vector<int32_t> reference(std::vector<int32_t> ids, const Ranks& ranks) {
  while (true) {
    std::optional<size_t> best;
    uint32_t rank = MergeSymbol::kNoRank;
    for (size_t i = 0; i + 1 < ids.size(); ++i) {
      const PairMerge pair = look_up(ranks, ids[i], ids[i + 1]);
      if (pair.rank < rank) {
        rank = pair.rank;
        best = i;
      }
    }
    if (!best) return ids;
    ids[*best] = look_up(ranks, ids[*best], ids[*best + 1]).id;
    ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(*best) + 1);
  }
}

TEST(Merge, DoesWhatTheDefinitionDoes) {
  for (uint64_t seed = 0; seed < 2000; ++seed) {
    uint64_t counter = 0;
    const auto draw = [&](uint64_t n) { return random_bits(seed, 0, counter++) % n; };
    Ranks ranks;
    // Merges in any order, so that a later pair may come before the one that made it possible, and
    // several pairs with one rank, as equal scores give.
    for (int32_t id = 4; id < 14; ++id) {
      const auto left = static_cast<int32_t>(draw(static_cast<uint64_t>(id)));
      const auto right = static_cast<int32_t>(draw(static_cast<uint64_t>(id)));
      ranks.try_emplace({left, right}, PairMerge{static_cast<uint32_t>(draw(8)), id});
    }
    std::vector<int32_t> ids;
    MergeWorkspace work;
    const uint64_t n = 1 + draw(40);
    for (uint32_t i = 0; i < n; ++i) {
      ids.push_back(static_cast<int32_t>(draw(4)));
      work.symbols.push_back({.id = ids.back(), .begin = i, .end = i + 1});
    }
    merge_symbols(work, [&](const MergeSymbol& left, const MergeSymbol& right) {
      return look_up(ranks, left.id, right.id);
    });
    std::vector<int32_t> ours;
    uint32_t end = 0;
    for (int32_t i = 0; i >= 0; i = work.symbols[i].next) {
      ours.push_back(work.symbols[i].id);
      EXPECT_EQ(work.symbols[i].begin, end);
      end = work.symbols[i].end;
    }
    EXPECT_EQ(end, n);
    ASSERT_EQ(ours, reference(ids, ranks)) << "seed " << seed;
  }
}

}  // namespace
}  // namespace venturi
