// Flags that several commands share, spelt as people know them from other engines.
#pragma once

#include <CLI/CLI.hpp>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/plan.h"

namespace venturi {

struct ModelFlags {
  std::string model;
  std::string memory;
  std::string pin, window, sidecar, experts, state_memory, spill;
  CLI::Option* spill_option = nullptr;
  int64_t expert_slots = 0;
  bool no_guesses = false;
  int64_t context = 0, batch = 0;
  int threads = 0;
  bool no_repack = false, no_sparse = false;
  std::vector<std::string> adapters;  // as given
  bool named_adapters = false;        // NAME=PATH, else PATH
  bool shared_state = false, no_prefix_cache = false;  // not flags of every command
  std::shared_ptr<Ledger> ledger = {};   // of an engine beside which this one is opened; no flags
  std::shared_ptr<ThreadPool> pool = {};
  std::string plan;  // of `venturi plan`, instead of all of the above but the model
  double min_tps = 0;  // tokens a second predicted for each stream, or it is not opened

  void add(CLI::App& app) {
    add_model(app);
    add_rest(app);
  }
  void add_model(CLI::App& app);
  void add_rest(CLI::App& app);
  void add_state(CLI::App& app);  // where keys and values go that have no place in memory
  void add_adapter(CLI::App& app);    // one: PATH[=SCALE]
  void add_adapters(CLI::App& app, const char* what);  // several; named_adapters is the caller's to set before
  void add_plan(CLI::App& app);   // and --min-tps; after the others
  // What the flags say, without the plan.
  Result<EngineOptions> engine_options(int64_t outputs = 1, int sequences = 1) const;
  Result<std::string> path() const;  // of the model
  // The first plan of the file, made for this model; nothing without --plan.
  Result<std::optional<PlanFile>> load_plan() const;
  // Warns of flags that were given and are of no use to what was planned, or were followed in part.
  void tell_unused(const WeightCatalog& catalog, const ResidencyPlan& residency, const NeuronPlan& neurons) const;
  // Opens the engine; a progress bar on a terminal when loading takes over a second. Code::kOutOfBudget before anything is
  // loaded where less than min_tps is predicted.
  Result<std::unique_ptr<Engine>> open(int64_t outputs = 1, int sequences = 1) const;
};

// -p TEXT, or -f FILE ("-": standard input).
struct TextFlags {
  std::string prompt, file;
  CLI::Option* prompt_option = nullptr;
  void add(CLI::App& app, const char* what);
  Status check() const;  // of the file, before anything is loaded
  // The file to read; "-" also where nothing was given and text is piped in; empty: the prompt.
  std::string source() const;
  Result<std::string> text() const;
};

// The model, or the default one; an error if there is none.
Result<std::string> model_path(const std::string& given);

// The embedded default model beside the program or in the source tree; empty if there is none.
std::string default_model();

// A CLI11 transformation: "8k" is 8192.
extern const CLI::Validator kTokenCount;
// A CLI11 check: an amount as parse_bytes() reads it; an empty text, as of a variable that is not set, is none.
extern const CLI::Validator kByteAmount;

// "12.3 tok/s", three significant digits.
std::string format_rate(double per_second);

}  // namespace venturi
