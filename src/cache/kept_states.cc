#include "cache/kept_states.h"

#include <algorithm>
#include <cassert>
#include <utility>

namespace venturi {

void KeptStates::put(std::unique_ptr<SequenceState> state, std::span<const int32_t> tokens,
                     uint64_t kind) {
  if (!state || state->length() == 0) return;
  assert(state->length() <= static_cast<int64_t>(tokens.size()));
  tokens = tokens.first(static_cast<size_t>(state->length()));
  kept_.remove_if([&](const Kept& k) {
    return k.kind == kind &&
           std::equal(k.tokens.begin(), k.tokens.end(), tokens.begin(), tokens.end());
  });
  kept_.push_back(
      {.tokens = {tokens.begin(), tokens.end()}, .kind = kind, .state = std::move(state)});
}

std::unique_ptr<SequenceState> KeptStates::take(std::span<const int32_t> tokens, int64_t most,
                                                uint64_t kind) {
  tokens = tokens.first(std::min<size_t>(tokens.size(), static_cast<size_t>(most)));
  auto best = kept_.end();
  for (auto k = kept_.begin(); k != kept_.end(); ++k)
    if (k->kind == kind && k->tokens.size() <= tokens.size() &&
        (best == kept_.end() || k->tokens.size() > best->tokens.size()) &&
        std::equal(k->tokens.begin(), k->tokens.end(), tokens.begin()))
      best = k;
  if (best == kept_.end()) return nullptr;
  std::unique_ptr<SequenceState> state = std::move(best->state);
  kept_.erase(best);
  return state;
}

bool KeptStates::drop_oldest() {
  if (kept_.empty()) return false;
  kept_.pop_front();
  return true;
}

}  // namespace venturi
