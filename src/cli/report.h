// What `run` and `chat` say at the end: speed, its share of what the machine's memory bandwidth
// allows, and memory held against the budget.
#pragma once

#include <string>

#include "engine/generate.h"

namespace venturi {

// Probes the memory bandwidth, over the loaded weights where they are large enough.
std::string generation_report(Engine& engine, const GenerationReport& report);

}  // namespace venturi
