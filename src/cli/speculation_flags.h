// Flags of speculative decoding.
#pragma once

#include <CLI/CLI.hpp>

#include <algorithm>
#include <memory>
#include <string>

#include "cli/flags.h"
#include "engine/speculator.h"

namespace venturi {

struct SpeculationFlags {
  bool lookup = false;
  std::string draft_model;
  int64_t most = 8;

  void add(CLI::App& app);
  bool wanted() const { return lookup || !draft_model.empty(); }
  // Rows of logits of a step in which `streams` guess.
  int64_t outputs(int64_t streams) const {
    return wanted() ? std::min<int64_t>(streams * (most + 1), streams + 64) : streams;
  }
  // The draft model, with sequences for so many streams; null without one. It is opened before the model, which
  // shares its ledger and its threads then, by way of `model`.
  Result<std::unique_ptr<Engine>> open_draft(ModelFlags& model, int streams) const;
  // Null where none is wanted.
  Result<std::shared_ptr<Speculator>> speculator(const Engine& engine, std::unique_ptr<Engine> draft) const;
};

}  // namespace venturi
