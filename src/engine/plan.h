// A plan: what of a model lies where, in which steps it runs, and what that is predicted to give on a
// machine. Made from headers, shape mode and a profile (planner/profile.h); nothing is loaded.
//
// A plan is a value with a file of its own: JSON that names the model by a fingerprint of its tensors,
// carries the profile it was predicted from, and lists one or more plans, the first of which `--plan`
// runs. It may be edited; what is read back is checked against itself and against the model.
// Units: bytes, seconds, tokens.
#pragma once

#include <map>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "engine/engine.h"
#include "memory/routing_trace.h"
#include "planner/cost.h"
#include "planner/profile.h"

namespace venturi {

struct Prediction {
  double tokens_per_second = 0;       // decoding, all streams together, at the beginning of a context
  double tokens_per_second_full = 0;  // at its end
  double prefill_tokens_per_second = 0;
  int64_t prompt = 0;                 // tokens of the prompt that these are for
  double first_token_seconds = 0;
  uint64_t peak_memory_bytes = 0;     // what the ledger will hold at most, and the process itself
  double memory_bytes_per_token = 0, disk_bytes_per_token = 0;  // read, decoding
  double active_neurons = 0;          // of a row, assumed (CostInputs); 0 where none is read by itself
  double experts_found = 0;           // in their cache, of those that decoding asks for; 0 where there is none, or by default
  std::string binds;                  // "disk", "memory" or "compute": what decoding waits for
};

// A weight's part in memory and outside, for a reader.
struct PlannedWeight {
  std::string name, codec;
  int64_t rows = 0, pinned_rows = 0;
  uint64_t pinned_bytes = 0, streamed_bytes = 0;
  bool by_neuron = false;  // from the sidecar; the numbers above are 0 then
};

struct Plan {
  std::string name;  // "default", or what is different
  // memory, context, batch, sequences, threads, repack, state memory and where state spills, sparse and its sidecar:
  // as they will be
  EngineOptions options;
  Footprint footprint;
  ResidencyPlan residency;
  NeuronPlan neurons;  // not used(): none is read by itself
  StatePlan state;     // not in the file: options make it again
  std::string state_type = {};  // of keys and values, and of recurrent state: "F16", "F32" or "F16 and F32"
  int64_t expert_slots = 0, experts = 0;  // of a cache of experts, and that there are; 0 where there is no cache
  std::vector<PlannedWeight> weights;
  Prediction predicted;

  bool reads_disk() const { return residency.streams() || neurons.used() || state.spills(); }
};

struct PlanFile {
  static constexpr int kVersion = 1;
  static constexpr std::string_view kFormat = "venturi plan";

  std::string model;         // path
  uint64_t model_bytes = 0;  // of its tensors
  std::string fingerprint;
  MachineProfile profile;
  std::vector<Plan> plans;   // at least one
  std::vector<std::string> assumptions = {};  // of the predictions, for a reader
};

// Of names, types, shapes and places of all tensors: another file has another.
std::string model_fingerprint(const ModelFile& file);
uint64_t tensor_bytes(const ModelFile& file);

Json plan_file_json(const PlanFile& file);
// `path` is for errors.
Result<PlanFile> parse_plan_file(std::string_view text, std::string_view path);
Result<PlanFile> read_plan_file(const std::string& path);
// Code::kInvalidArgument when the plan was made for another model.
Status check_plan_for(const PlanFile& plan, std::string_view plan_path, const ModelFile& file);

// A model that is planned for, from its headers.
class Planner {
 public:
  static Result<std::unique_ptr<Planner>> open(const std::string& path);
  // The same as if every matrix of two dimensions were in `codec`, where its rows allow.
  static Result<std::unique_ptr<Planner>> open_as(const std::string& path, const Codec& codec);

  const ModelFile& file() const { return *file_; }
  const WeightCatalog& catalog() const { return *catalog_; }
  const Model& model() const { return *model_; }

  // What Engine::open would choose, without a prediction. Code::kOutOfBudget, naming what would fit, which takes some
  // twenty fittings; try_fit() names nothing.
  Result<Plan> fit(const EngineOptions& options) { return fit(options, true); }
  Result<Plan> try_fit(const EngineOptions& options) { return fit(options, false); }
  // From now on predictions take so many of the neurons that are read by themselves to be active.
  void assume_active(double share) { active_neurons_ = share; }
  // From now on predictions take the mixture to route as in the trace. Code::kInvalidArgument when it is of another shape.
  Status assume_routes(RoutingTrace trace);
  // Several plans are about to be predicted: what their caches would find is counted together, which is sooner.
  void expect(std::span<const Plan> plans);
  // Fills in what it is predicted to give for a prompt of so many tokens.
  void predict(Plan& plan, const MachineProfile& profile, int64_t prompt = 512);

 private:
  Planner() = default;
  Result<Plan> fit(const EngineOptions& options, bool advises);
  // Of a cache of experts: policy, slots, rows of a step.
  using CacheKey = std::tuple<std::string, int64_t, int64_t>;
  static CacheKey cache_key(const Plan& plan) { return {plan.residency.expert_policy, plan.expert_slots, plan.options.sequences}; }
  Status set_sidecar(const EngineOptions& options);
  std::unique_ptr<ModelFile> file_;
  std::unique_ptr<WeightCatalog> catalog_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<Sidecar> sidecar_;
  bool retyped_ = false;  // no file has this
  double active_neurons_ = kActiveNeurons;
  std::optional<RoutingTrace> routes_;
  std::map<CacheKey, double> found_;  // on the routes
};

// Of the experts that steps of so many sequences ask for on this trace, the share that caches of so many slots would have.
std::vector<double> experts_found(const RoutingTrace& trace, std::string_view policy, const std::vector<int64_t>& slots, int64_t streams);
// The same for the plan's cache; negative where there is none.
double experts_found(const RoutingTrace& trace, const WeightCatalog& catalog, const ResidencyPlan& residency, int64_t streams);

// Runs the plan as it was made.
EngineOptions options_of(const Plan& plan);

// Bytes resident in the process now, besides what a ledger holds: program, libraries, headers.
uint64_t process_bytes();

}  // namespace venturi
