// The models of `venturi serve`: named on the command line, opened inside one budget when they are wanted.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cli/flags.h"
#include "cli/speculation_flags.h"
#include "server/models.h"

namespace venturi {

struct ServeModelFlags {
  ModelFlags model;  // of each, but for its file
  SpeculationFlags speculation;
  std::vector<std::string> files;  // FILE or name=FILE
  std::string alias;
  int streams = 0;
  int spare_sequences = 0;  // beside the streams, for what saves and restores their state
  int64_t max_queued = 1024;
  double max_wait_seconds = SchedulerOptions{}.max_queued_seconds;
};

struct ServeModels {
  std::vector<server::ModelSpec> specs;
  std::shared_ptr<Ledger> ledger;  // of all
};

// Checks names, and of several models that each fits the budget by itself, from headers; loads nothing.
Result<ServeModels> serve_models(const ServeModelFlags& flags);

}  // namespace venturi
