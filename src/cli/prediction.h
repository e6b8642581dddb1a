// Predicted beside measured at the end of `run` and `chat`.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "engine/plan.h"

namespace venturi {

// What a run is compared with: the plan that it was given, or the stored profile of this machine. Nothing is measured
// for it. Where there is neither, why.
struct PredictionBasis {
  std::optional<PlanFile> plan;  // without a plan's file: its profile alone
  std::string hint;              // a line, where there is none
};
PredictionBasis prediction_basis(const Engine& engine, std::optional<PlanFile> given);

// What was run, of one sequence.
struct Ran {
  struct Prompt {
    int64_t position = 0, tokens = 0;  // fed from here on
  };
  std::vector<Prompt> prompts;
  double prompt_seconds = 0, first_token_seconds = 0;  // of all prompts; the latter with the draw after each
  int64_t steps = 0, tokens = 0, position = 0;  // steps: prompts' too; tokens: decoded; position: in the middle of decoding
  double seconds = 0;                           // of decoding
};

// Lines: rates of decoding and of prompts, time to the first token, bytes read from disk for a step, memory held.
std::string prediction_report(Engine& engine, const PlanFile& plan, const Ran& ran);

}  // namespace venturi
