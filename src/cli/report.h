// What `run` and `chat` say at the end: speed, its share of what the machine's memory bandwidth
// allows, and memory held against the budget.
#pragma once

#include <string>

#include "engine/generate.h"
#include "engine/plan.h"

namespace venturi {

// One line on what was read by neuron since `before`; empty where nothing is.
std::string neuron_report(const Engine& engine, const NeuronCounters& before = {});

// Probes the memory bandwidth, over the loaded weights where they are large enough. With a plan, or a profile in its
// place, what it predicted beside what was measured.
std::string generation_report(Engine& engine, const GenerationReport& report, const PlanFile* plan = nullptr);

// Peak resident set of this process in bytes, from the kernel; 0 if it does not say.
uint64_t peak_rss();
// The peak begins anew from here, where the kernel allows it.
void reset_peak_rss();

}  // namespace venturi
