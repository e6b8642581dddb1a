// Models whose feed-forwards are read by neuron: which those are, whether a sidecar was prepared, and what of
// the budget the neurons get.
#pragma once

#include "engine/engine.h"

namespace venturi {

// The feed-forwards of the model that have an activation of zeros, in order of use.
std::vector<NeuronLayer> neuron_layers(const Model& model);

// The sidecar that the options name, or the one beside the model where they name none. Null where there is
// none or it is not wanted. One that does not belong to the model is an error if it was named, else a
// warning and null.
Result<std::unique_ptr<Sidecar>> find_sidecar(const ModelFile& file, const Model& model, const EngineOptions& options);

// From now on the weights that the sidecar holds come from it, or no longer do.
void set_bundles(WeightCatalog& catalog, const Sidecar& sidecar, bool on);

// The smallest: no neuron stays.
NeuronPlan least_neuron_plan(const Sidecar& sidecar);

struct SparsePlan {
  NeuronPlan neurons;
  ResidencyPlan residency;  // of all other weights
};
// For `budget` bytes of weights, windows and neurons, of a catalog whose bundles are set: a byte pinned of
// a weight that every token reads is worth more than one of a neuron that some do, so the former come
// first, but for a small part.
Result<SparsePlan> plan_sparse(WeightCatalog& catalog, std::span<const WeightUse> uses, const Sidecar& sidecar,
                               uint64_t budget, const ResidencyWishes& wishes);

}  // namespace venturi
