// A profile of the machine for one plan: only what its prediction needs, measured as the plan will use it.
#pragma once

#include "engine/plan.h"

namespace venturi {

struct PlanProbeOptions {
  int threads = 0;
  uint64_t memory = Ledger::kUnlimited;  // not much more than this is drawn
  bool brief = false;  // half a second instead of a few
};

// Memory, peaks, products in the codecs and shapes of the model, and, where weights stream, the disk: the
// very bytes that the plan would stream, in its requests.
Result<MachineProfile> probe_for_plan(const Planner& planner, const Plan& plan, const PlanProbeOptions& options);

// Adds the model's codecs to a profile that has not measured them.
Status probe_missing_codecs(const Planner& planner, const PlanProbeOptions& options, MachineProfile& profile);

}  // namespace venturi
