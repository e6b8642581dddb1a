// The sampling flags, spelt as people know them.
#pragma once

#include <CLI/CLI.hpp>

#include <string>
#include <vector>

#include "models/sampling.h"

namespace venturi {

// Refuses what 64 bits do not hold.
extern const CLI::Validator kSeed;

struct SamplingFlags {
  SamplingParams params;
  std::vector<std::string> bias;  // ID+1.5, ID-2, ID-inf

  void add(CLI::App& app);
  Result<Sampler> sampler() const;
};

}  // namespace venturi
