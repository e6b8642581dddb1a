// The models of `venturi serve`: named on the command line, opened inside one budget when they are wanted.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cli/flags.h"
#include "cli/plan_meter.h"
#include "cli/speculation_flags.h"
#include "server/models.h"

namespace venturi {

struct ServeModelFlags {
  ModelFlags model;  // of each, but for its file
  SpeculationFlags speculation;
  std::vector<std::string> files;  // FILE or name=FILE
  std::string alias;
  int streams = 0;
  bool keeps_sessions = false;
  int64_t max_queued = 1024;
  std::optional<Pooling> pooling = {};  // of decoders; else as their files say
  double max_wait_seconds = SchedulerOptions{}.max_queued_seconds;
};

// A plan that is run, and what was measured of it.
struct PlanRun {
  PlanFile file;
  std::shared_ptr<PlanMeter> meter = {};  // when the model has been opened
};

struct ServeModels {
  std::vector<server::ModelSpec> specs;
  std::shared_ptr<Ledger> ledger;  // of all
  std::shared_ptr<PlanRun> plan = {};  // null without --plan
};

// Checks names, and of several models that each fits the budget by itself, from headers; loads nothing.
Result<ServeModels> serve_models(const ServeModelFlags& flags);

}  // namespace venturi
