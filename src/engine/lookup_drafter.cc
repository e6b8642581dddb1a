#include <algorithm>

#include "engine/drafter.h"

namespace venturi {

namespace {

constexpr int64_t kLeastMatch = 2, kMostMatch = 8;

class LookupDrafter : public Drafter {
 public:
  void guess(std::span<Guessing> streams) override {
    for (Guessing& s : streams) {
      LookedUp found = look_up(s.tokens, s.most);
      s.guesses = std::move(found.guesses);
      s.confidence = found.match <= 2 ? 0 : found.match == 3 ? 1 : found.match < kMostMatch ? 2 : 3;
    }
  }
};

}  // namespace

// One pass over the tokens: 4 bytes each, nothing beside the reading of weights.
LookedUp look_up(std::span<const TokenId> tokens, int64_t most) {
  const auto n = static_cast<int64_t>(tokens.size());
  int64_t best = kLeastMatch - 1, at = 0;  // at: behind the match
  for (int64_t end = n - 1; end > 0 && best < kMostMatch; --end) {
    if (tokens[end - 1] != tokens[n - 1]) continue;
    int64_t length = 1;
    while (length < std::min(end, kMostMatch) && tokens[end - 1 - length] == tokens[n - 1 - length]) ++length;
    if (length > best) best = length, at = end;
  }
  if (at == 0) return {};
  std::vector<TokenId> guesses;
  for (int64_t i = 0; i < most; ++i) guesses.push_back(at + i < n ? tokens[at + i] : guesses[at + i - n]);
  return {std::move(guesses), best};
}

std::unique_ptr<Drafter> lookup_drafter() { return std::make_unique<LookupDrafter>(); }

}  // namespace venturi
