// What `run` and `chat` say at the end: speed, its share of what the machine's memory bandwidth
// allows, and memory held against the budget.
#pragma once

#include <string>

#include "engine/generate.h"
#include "engine/plan.h"

namespace venturi {

// One line on what was read by neuron since `before`; empty where nothing is.
std::string neuron_report(const Engine& engine, const NeuronCounters& before = {});

// Probes the memory bandwidth, over the loaded weights where they are large enough. With a plan, what it
// predicted beside what was measured.
std::string generation_report(Engine& engine, const GenerationReport& report, const PlanFile* plan = nullptr);

// Peak resident set of this process in bytes, from the kernel; 0 if it does not say.
uint64_t peak_rss();
// The peak begins anew from here, where the kernel allows it.
void reset_peak_rss();

// A line: rates of decoding, bytes read from disk for a step and memory held, predicted and measured.
struct Decoded {
  int64_t steps = 0, tokens = 0, position = 0;  // steps: prompts' too; position: in the middle of decoding
  double seconds = 0;                           // of decoding
};
std::string prediction_report(Engine& engine, const PlanFile& plan, const Decoded& decoded);

}  // namespace venturi
