// Plans and sweeps as text, and predicted beside measured.
#pragma once

#include <string>
#include <vector>

#include "engine/plan.h"

namespace venturi {

// A table of the plans, then what lies where in the first; every weight of it with `weights`.
std::string plan_report(const PlanFile& file, bool weights);

// A point of a sweep over memory; no plan where nothing fits.
struct SweepPoint {
  uint64_t memory = 0;
  std::optional<Plan> plan;
};
std::string sweep_table(const std::vector<SweepPoint>& points);
std::string sweep_csv(const std::vector<SweepPoint>& points);
// Tokens a second over memory.
std::string sweep_svg(const std::vector<SweepPoint>& points, std::string_view title);

}  // namespace venturi
