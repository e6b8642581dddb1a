// What `run` and `chat` say at the end: speed, its share of what the machine's memory bandwidth
// allows, and memory held against the budget.
#pragma once

#include <string>

#include "engine/generate.h"

namespace venturi {

// One line on what was read by neuron since `before`; empty where nothing is.
std::string neuron_report(const Engine& engine, const NeuronCounters& before = {});

// Probes the memory bandwidth, over the loaded weights where they are large enough.
std::string generation_report(Engine& engine, const GenerationReport& report);

}  // namespace venturi
