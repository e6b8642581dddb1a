// What fits: the setting that Engine::open runs, found from headers and shape mode before anything is
// loaded.
#pragma once

#include "engine/engine.h"

namespace venturi {

struct Setting {
  EngineOptions options;    // threads, context and batch as they will be
  Footprint footprint;
  StatePlan state;
  ResidencyPlan residency;
  NeuronPlan neurons;       // not used(): no sidecar, or no need of it
  std::vector<WeightUse> uses;  // of a decoding step, in order
};

// All weights in memory where they fit; else pinned in part and streamed. The catalog is left with the
// rows pinned that the plan says. Where state may spill (options.spill), it does before weights are
// streamed, for which every token would wait from the first on. Code::kOutOfBudget when not even the smallest
// windows do. `sidecar` may be null; with one, a model that does not fit is read by neuron, and the catalog's
// bundles are set. `adapters` (may be null) are memory beside the weights, and scratch.
Result<Setting> fit_setting(const Model& model, WeightCatalog& catalog, const EngineOptions& options,
                            const Sidecar* sidecar = nullptr, const AdapterSet* adapters = nullptr);

// A refusal of fit_setting() with what would fit: the largest context and batch, the least memory, each found by fitting
// with all else as it was, so that it runs and the next is refused. Some twenty fittings; leaves the catalog anyhow.
Error with_advice(Error refusal, const Model& model, WeightCatalog& catalog, const EngineOptions& options,
                  const Sidecar* sidecar = nullptr, const AdapterSet* adapters = nullptr);

}  // namespace venturi
