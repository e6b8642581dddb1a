// What a step will take: the scheduler's model of the machine.
//
//   seconds(rows, context) = (weights^4 + (rows * per_row)^4)^(1/4) + context * per_context
//
// weights: reading them once; per_row: a row's multiply-adds; per_context: one row attending one
// earlier token. The first term is a maximum with a round corner: reading and computing overlap, but not
// wholly. The planner gives first values, and every measured step moves each by its share of the
// prediction. Threads: a plain value.
#pragma once

#include <cstdint>

namespace venturi {

struct StepCost {
  double weights_seconds = 10e-3;
  double per_row_seconds = 2e-3;
  double per_context_seconds = 20e-9;
  // Moving the state of one token between memory and disk, one way.
  double move_seconds_per_token = 50e-6;

  double seconds(int64_t rows, int64_t context) const;
  // The most rows, up to `most`, that may join `rows` (attending `context` in all) so that the step
  // stays within `limit`; each attends `each` tokens.
  int64_t rows_within(double limit, int64_t rows, int64_t context, int64_t each, int64_t most) const;
  // A step of this size took so long.
  void observe(int64_t rows, int64_t context, double seconds);
  // Moving the state of so many tokens, either way, took so long.
  void observe_move(int64_t tokens, double seconds);
};

}  // namespace venturi
