// Which profile a prediction uses, which plans are shown, and what would fit where none does.
#pragma once

#include <string>

#include "engine/plan.h"

namespace venturi {

struct ProfileChoice {
  std::string file;    // this one; else
  bool probe = false;  // measured anew; else the stored one, and without one a brief measurement
};
Result<MachineProfile> profile_for(const ProfileChoice& choice, const Planner& planner, const Plan& plan);

// What a prediction from the profile takes for granted though it may not hold: that a profile of another disk, of other
// threads or of weeks ago tells how this machine is now. Parts of a sentence; nothing where all is well.
std::vector<std::string> assumptions(const MachineProfile& profile, const ModelFile& model, int threads, bool reads_disk);

// What a prediction beside a run takes: the engine as it is, on the profile and with the assumptions of its plan.
CostInputs cost_inputs(Engine& engine, const PlanFile& plan);

// The plan that the engine would choose, predicted, and such as differ from it in one thing: context,
// streams, layout; and such as the cost model finds faster than the engine's rules, which know no machine: of the window, of
// the rows in a step.
std::vector<Plan> plans_around(Planner& planner, Plan chosen, const EngineOptions& options, const MachineProfile& profile,
                               int64_t prompt);

// What to say when nothing fits: `refusal` is why, and what is added is which streams or smaller type would.
Error nothing_fits(Planner& planner, const EngineOptions& options, Error refusal);
// When no plan gives each stream so many tokens a second: the memory or the smaller type with which one would.
Error too_slow(Planner& planner, const std::vector<Plan>& plans, const EngineOptions& options,
               const MachineProfile& profile, double least);

// Code::kOutOfBudget where less is predicted for each stream: by the plan that is to be run, or, without one, for the engine's
// own choice on the stored profile.
Status check_speed(const std::string& model, const EngineOptions& options, const PlanFile* plan, double least);

}  // namespace venturi
