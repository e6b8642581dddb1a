#include "engine/activations.h"

#include <algorithm>

namespace venturi {

namespace {

// A chunk of a prompt so short that attention is dealt out by splits, whose parts take memory that a
// long one does not.
constexpr int64_t kShortChunk = 16;

// The last `rows` tokens of a full context.
Step chunk_step(const StepShapes& s, int64_t rows) {
  Step step;
  step.tokens.assign(static_cast<size_t>(rows), 0);
  step.spans = {{.row_begin = 0, .n_rows = rows, .position = s.context - rows, .state = nullptr}};
  for (int64_t r = rows - std::min(s.outputs, rows); r < rows; ++r) step.output_rows.push_back(r);
  return step;
}

// The next token of every sequence, at the end of its context.
Step decode_step(const StepShapes& s) {
  Step step;
  for (int i = 0; i < s.sequences; ++i) {
    step.tokens.push_back(0);
    step.spans.push_back({.row_begin = i, .n_rows = 1, .position = s.context - 1, .state = nullptr});
    step.output_rows.push_back(i);
  }
  return step;
}

}  // namespace

ActivationPlan plan_activations(const Model& model, const StepShapes& s) {
  const int64_t rows = std::min(s.batch, s.context);
  std::vector<std::vector<Block>> traces;
  for (const Step& step :
       {chunk_step(s, rows), decode_step(s), chunk_step(s, std::min(rows, kShortChunk))}) {
    const auto context = Context::shape(s.threads);
    context->set_row_tile(s.row_tile);
    (void)model.forward(*context, step);
    traces.push_back(context->arena().trace());
  }
  return {ArenaPlan::of_all(traces), std::move(traces)};
}

}  // namespace venturi
