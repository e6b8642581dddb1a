// What fits: the setting that Engine::open runs, found from headers and shape mode before anything is
// loaded.
#pragma once

#include "engine/engine.h"

namespace venturi {

struct Setting {
  EngineOptions options;    // threads, context and batch as they will be
  Footprint footprint;
  ResidencyPlan residency;
  std::vector<WeightUse> uses;  // of a decoding step, in order
};

// All weights in memory where they fit; else pinned in part and streamed. The catalog is left with the
// rows pinned that the plan says. Code::kOutOfBudget, naming what would fit, when not even the smallest
// windows do.
Result<Setting> fit_setting(const Model& model, WeightCatalog& catalog, const EngineOptions& options);

}  // namespace venturi
