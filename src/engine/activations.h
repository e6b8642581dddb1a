// What activations take at a setting, and where they lie: the lifetimes of a step's blocks, which
// shape mode records, placed before anything runs (ops/placement.h). Pure; needs no loaded weights.
#pragma once

#include "models/architecture.h"
#include "ops/arena.h"

namespace venturi {

// The steps that a plan of activations has to hold.
struct StepShapes {
  int64_t context = 0, batch = 0, outputs = 1;  // tokens, rows of a step, rows with logits
  int sequences = 1, threads = 1;
  int64_t row_tile = Context::kRowTile;
};

struct ActivationPlan {
  ArenaPlan arena;                         // its peak is that of every kind of step
  std::vector<std::vector<Block>> traces;  // of each kind, the longest chunk of a prompt first
};

ActivationPlan plan_activations(const Model& model, const StepShapes& shapes);

}  // namespace venturi
