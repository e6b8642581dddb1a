// Two models in one memory budget.
#pragma once

#include "cli/flags.h"

namespace venturi {

struct EnginePair {
  std::unique_ptr<Engine> model, base;
};

// Opens the model of `flags` and another one with the same flags. --memory is the budget of both together: each
// gets what it needs where that fits, else its least and a share of the rest. What does not fit is refused before
// either is loaded, with what would.
Result<EnginePair> open_pair(const ModelFlags& flags, const std::string& base, int64_t outputs);

}  // namespace venturi
