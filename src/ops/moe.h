// Mixture of experts: a router picks top_k experts for each row, and the row's result is the
// weighted sum of their gated feed-forwards, added in the order of choice. A row's result does not
// depend on the other rows of the step.
#pragma once

#include <cstdint>
#include <vector>

#include "ops/context.h"
#include "ops/rows.h"

namespace venturi {

struct RouterParams {
  enum class Gate {
    kSoftmax,        // over all experts, then the best top_k
    kSoftmaxChosen,  // the best logits, then softmax over those
    kSigmoid,        // of each expert on its own
  } gate = Gate::kSoftmax;
  int64_t n_experts = 0, top_k = 0;
  bool early = false;      // the router sees what enters the layer, before the norm and the attention
  bool normalise = false;  // weights of the chosen divided by their sum
  float scale = 1;         // of the weights, after that
  // Added to the scores for the choice only (DeepSeek-V3's balance without a loss); null: none.
  const VectorWeight* selection_bias = nullptr;
  // Experts in groups of equal size, of which the best n_groups_used are open to a row. A group's
  // score is the sum of its two best biased scores (V3), or, without a bias, its best (V2).
  int64_t n_groups = 1, n_groups_used = 1;
};

// Choice i of row r at [r * top_k + i], best first. Of equal scores the lower index comes first.
struct Routes {
  int64_t top_k = 0;
  std::vector<int32_t> expert;
  std::vector<float> weight;
  int32_t op = -1;  // of the context, that made them
};

// logits [rows, n_experts], overwritten. In shape mode, rows are spread evenly over the experts.
Routes route(Context& context, const RouterParams& params, Act& logits);

struct ExpertWeights {
  const Weight *gate, *up, *down;  // [n_experts] planes
  Activation activation;
};

// What the rows of a step chose of a mixture.
struct ChosenExperts {
  Routes routes;
  std::vector<int32_t> order;  // each once, as they are taken
};

// Asks whoever keeps the experts for those that are not in memory. `ahead`: other ops come before mixture(), and the
// experts are read beside them. Nothing else of the model's mixtures comes between the two.
ChosenExperts begin_mixture(Context& context, Routes routes, const ExpertWeights& experts, bool ahead);

// Rows are gathered by expert, so that an expert's weights are read once a step.
// x [rows, d_model] -> [rows, d_model], in the place of x, which is given up.
Act mixture(Context& context, Act x, const ChosenExperts& chosen, const ExpertWeights& experts);
// The same beside x, which stays: y is overwritten, or, where it is empty, allocated when the experts have run.
void mixture_into(Context& context, const Act& x, const ChosenExperts& chosen, const ExpertWeights& experts, Act& y);

}  // namespace venturi
