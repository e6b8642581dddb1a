// Flags of speculative decoding.
#pragma once

#include <CLI/CLI.hpp>

#include <memory>

#include "engine/speculator.h"

namespace venturi {

struct SpeculationFlags {
  bool lookup = false;
  int64_t most = 8;

  void add(CLI::App& app);
  bool wanted() const { return lookup; }
  // Rows of logits of a step in which `streams` guess.
  int64_t outputs(int64_t streams) const { return wanted() ? std::min<int64_t>(streams * (most + 1), streams + 64) : streams; }
  std::shared_ptr<Speculator> speculator() const;  // null: not wanted
};

}  // namespace venturi
