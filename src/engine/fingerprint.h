// What made a sequence's state, as a number: another model, or this one opened so that it would make another state,
// has another.
#pragma once

#include <cstdint>

#include "engine/engine.h"

namespace venturi {

// Of all tensors' names, types and shapes, and of a sample of their bytes: some kilobytes of each, so that models of
// one shape are told apart; and of an adapter likewise. Reads the model's files.
Result<uint64_t> state_fingerprint(const Engine& engine, const Adapter* adapter = nullptr);

}  // namespace venturi
