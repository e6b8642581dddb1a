#include "engine/plan.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "engine/fit.h"
#include "engine/sparse.h"
#include "memory/experts/expert_layout.h"
#include "memory/experts/simulate.h"
#include "ops/route_replay.h"

namespace venturi {

namespace {

// Decoding is predicted for a context with as much in it as a short test has.
constexpr int64_t kEarlyPosition = 32;

uint64_t hash_in(uint64_t hash, std::string_view bytes) {  // FNV-1a
  for (const char c : bytes) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return hash;
}

std::vector<PlannedWeight> planned_weights(const WeightCatalog& catalog, bool repack) {
  std::vector<PlannedWeight> list;
  for (const auto& weight : catalog.matrices()) {
    const Weight& w = *weight;
    const int64_t pinned = std::min(w.pinned_rows, w.n_out);
    if (w.bundles) {
      list.push_back({.name = w.name, .codec = std::string(w.codec->name), .rows = w.n_out, .by_neuron = true});
      continue;
    }
    const uint64_t planes = static_cast<uint64_t>(w.n_planes);
    list.push_back({.name = w.name, .codec = std::string(w.codec->name), .rows = w.n_out, .pinned_rows = pinned,
                    .pinned_bytes = w.held_bytes(pinned, repack) * planes,
                    .streamed_bytes = static_cast<uint64_t>(w.n_out - pinned) * w.row_bytes * planes});
  }
  return list;
}

// Tensors of two dimensions and more in another type, one after another: bytes that are nowhere, for shape
// mode alone.
void retype(ModelFile& file, const Codec& codec) {
  uint64_t at = 0;
  for (TensorInfo& info : file.tensors) {
    const bool matrix = info.dims.size() >= 2 && info.as_stored() && info.n_rows() > 1;
    const bool smaller = codec.bits_per_weight() < info.codec->bits_per_weight();
    if (matrix && smaller && info.n_in() % codec.block_elems == 0) info.codec = &codec;
    if (info.segments.size() == 1 && info.segments[0].file == kMadeFile) continue;
    info.segments = {{0, at, info.bytes()}};
    at += info.bytes();
  }
}

std::string state_type(const std::vector<SlotSpec>& slots) {
  bool paged = false, recurrent = false;
  for (const SlotSpec& slot : slots) (slot.kind == SlotSpec::Kind::kPaged ? paged : recurrent) = true;
  return paged && recurrent ? "F16 and F32" : paged ? "F16" : recurrent ? "F32" : "";
}

}  // namespace

uint64_t process_bytes() {
  uint64_t pages = 0, resident = 0;
  if (FILE* f = std::fopen("/proc/self/statm", "r")) {
    if (std::fscanf(f, "%lu %lu", &pages, &resident) != 2) resident = 0;
    std::fclose(f);
  }
  return resident * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
}

std::string model_fingerprint(const ModelFile& file) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const TensorInfo& info : file.tensors) {
    hash = hash_in(hash, info.name);
    hash = hash_in(hash, info.codec->name);
    for (const int64_t dim : info.dims) hash = hash_in(hash, fmt::format(",{}", dim));
    for (const TensorSegment& s : info.segments) hash = hash_in(hash, fmt::format("@{}:{}+{}", s.file, s.offset, s.bytes));
  }
  return fmt::format("{:016x}", hash);
}

uint64_t tensor_bytes(const ModelFile& file) {
  uint64_t total = 0;
  for (const TensorInfo& info : file.tensors) total += info.bytes();
  return total;
}

Status check_plan_for(const PlanFile& plan, std::string_view plan_path, const ModelFile& file) {
  if (plan.fingerprint == model_fingerprint(file)) return {};
  return error(Code::kInvalidArgument,
               "{}: this plan was made for another model ({}); make one for this with: venturi plan -m {} --json", plan_path,
               plan.model, file.path);
}

Result<std::unique_ptr<Planner>> Planner::open(const std::string& path) {
  std::unique_ptr<Planner> planner(new Planner);
  planner->file_ = TRY(open_model(path));
  if (planner->file_->tensors.empty())
    return error(Code::kUnsupported, "{} has no tensors; it is a vocabulary only and cannot be run", path);
  planner->catalog_ = std::make_unique<WeightCatalog>(*planner->file_);
  planner->model_ = TRY(create_model(*planner->file_, *planner->catalog_));
  return planner;
}

Result<std::unique_ptr<Planner>> Planner::open_as(const std::string& path, const Codec& codec) {
  std::unique_ptr<Planner> planner(new Planner);
  planner->file_ = TRY(open_model(path));
  retype(*planner->file_, codec);
  planner->retyped_ = true;
  planner->catalog_ = std::make_unique<WeightCatalog>(*planner->file_);
  planner->model_ = TRY(create_model(*planner->file_, *planner->catalog_));
  return planner;
}

// As Engine::open does: a sidecar is of use only where there is a budget.
Status Planner::set_sidecar(const EngineOptions& options) {
  if (sidecar_) set_bundles(*catalog_, *sidecar_, false);
  sidecar_.reset();
  if (retyped_ || (options.memory == Ledger::kUnlimited && !options.neurons)) return {};
  sidecar_ = TRY(find_sidecar(*file_, *model_, options));
  return {};
}

Result<Plan> Planner::fit(const EngineOptions& options, bool advises) {
  EngineOptions wanted = options;
  wanted.sparse = options.sparse && options.adapters.empty();  // as in Engine::open
  TRY(set_sidecar(wanted));
  catalog_->pin_all();
  const AdapterSet adapters = TRY(declare_adapters(options.adapters, *file_, *catalog_));
  auto fitted = fit_setting(*model_, *catalog_, wanted, sidecar_.get(), &adapters);
  if (!fitted && advises) return with_advice(std::move(fitted).error(), *model_, *catalog_, wanted, sidecar_.get(), &adapters);
  Setting setting = TRY(std::move(fitted));
  TRY(check_adapters_used(adapters, setting.uses));
  model_->set_context(setting.options.context);
  Plan plan{.name = "default", .options = setting.options, .footprint = setting.footprint,
            .residency = std::move(setting.residency), .neurons = setting.neurons, .state = setting.state,
            .weights = planned_weights(*catalog_, options.repack), .predicted = {}};
  plan.state_type = state_type(model_->info().slots);
  if (const auto layout = ExpertLayout::of(*catalog_); layout && plan.residency.expert_cache_bytes > 0) {
    plan.expert_slots = layout->slots_in(plan.residency.expert_cache_bytes);
    plan.experts = layout->units();
  }
  plan.options.progress = {};
  plan.options.residency.reset();
  plan.options.neurons.reset();
  plan.options.sparse = plan.neurons.used();
  if (!plan.options.sparse) plan.options.sidecar.clear();
  // As much of the state in memory as was found, whatever else the plan's reader may change.
  if (plan.state.spills()) {
    plan.options.state_memory = plan.state.bytes;
  } else {
    plan.options.spill.reset();
    plan.options.state_memory = 0;
  }
  return plan;
}

EngineOptions options_of(const Plan& plan) {
  EngineOptions options = plan.options;
  options.residency = plan.residency;
  if (plan.neurons.used()) options.neurons = plan.neurons;
  return options;
}

Status Planner::assume_routes(RoutingTrace trace) {
  // It checks the trace against the model.
  found_.clear();
  routes_ = TRY(RouteReplay::create(std::move(trace), mixture_gates(*catalog_), experts_used(*file_))).trace();
  return {};
}

// A step of shape mode asks for `streams` times as many experts as a token; rows that choose the same ask for fewer.
std::vector<double> experts_found(const RoutingTrace& trace, std::string_view policy, const std::vector<int64_t>& slots, int64_t streams,
                                  bool together) {
  const Eviction* eviction = find_eviction(policy);
  const double steps = static_cast<double>(trace.n_tokens() / streams);
  const double asked = steps * static_cast<double>(trace.n_layers * std::min(trace.n_experts, streams * trace.top_k));
  std::vector<double> found(slots.size(), -1);
  if (!eviction || asked == 0) return found;
  const std::vector<CacheCount> counts = simulate(trace, CacheSizes{.slots = slots, .streams = streams, .together = together}, *eviction);
  for (size_t i = 0; i < found.size(); ++i) found[i] = 1 - static_cast<double>(counts[i].misses()) / asked;
  return found;
}

double experts_found(const RoutingTrace& trace, const WeightCatalog& catalog, const ResidencyPlan& residency, int64_t streams) {
  const auto layout = ExpertLayout::of(catalog);
  if (residency.expert_cache_bytes == 0 || !layout) return -1;
  return experts_found(trace, residency.expert_policy, {layout->slots_in(residency.expert_cache_bytes)}, streams,
                       catalog.experts()[0].chosen_early)[0];
}

void Planner::expect(std::span<const Plan> plans) {
  if (!routes_) return;
  std::map<std::pair<std::string, int64_t>, std::vector<int64_t>> wanted;  // slots, by policy and rows of a step
  for (const Plan& plan : plans) {
    if (plan.expert_slots == 0 || !found_.try_emplace(cache_key(plan), -1).second) continue;
    wanted[{plan.residency.expert_policy, plan.options.sequences}].push_back(plan.expert_slots);
  }
  for (const auto& [key, slots] : wanted) {
    const std::vector<double> found = experts_found(*routes_, key.first, slots, key.second, catalog_->experts()[0].chosen_early);
    for (size_t i = 0; i < slots.size(); ++i) found_[{key.first, slots[i], key.second}] = found[i];
  }
}

void Planner::predict(Plan& plan, const MachineProfile& profile, int64_t prompt) {
  if (sidecar_) set_bundles(*catalog_, *sidecar_, plan.neurons.used());
  catalog_->pin_all();
  if (!catalog_->pin(plan.residency)) return;  // it was made here
  const EngineOptions& o = plan.options;
  expect({&plan, 1});
  const double found = routes_ && plan.expert_slots > 0 ? found_.at(cache_key(plan)) : -1;
  const CostInputs in{*model_, *catalog_, plan.residency, profile, o.threads, o.repack, &plan.state, &plan.neurons,
                      active_neurons_, found};
  Prediction& p = plan.predicted;
  p.experts_found = std::max(found, 0.0);
  p.active_neurons = plan.neurons.used() ? active_neurons_ : 0;
  p.prompt = std::clamp<int64_t>(prompt, 1, o.context);
  const StepForecast prefill = forecast_prefill(in, p.prompt, o.batch);
  p.first_token_seconds = prefill.seconds;
  p.prefill_tokens_per_second = static_cast<double>(p.prompt) / prefill.seconds;
  p.peak_memory_bytes = plan.footprint.peak() + process_bytes();
  p.binds = prefill.binds();
  if (model_->info().embeds) {  // there is nothing to decode: a text is a prompt
    p.tokens_per_second = p.tokens_per_second_full = p.prefill_tokens_per_second;
    p.memory_bytes_per_token = prefill.memory_bytes / static_cast<double>(p.prompt);
    p.disk_bytes_per_token = prefill.disk_bytes / static_cast<double>(p.prompt);
    return;
  }
  const double streams = o.sequences;
  const StepForecast early = forecast_decode(in, o.sequences, std::min(kEarlyPosition, o.context - 1));
  const StepForecast full = forecast_decode(in, o.sequences, o.context - 1);
  p.tokens_per_second = streams / early.seconds;
  p.tokens_per_second_full = streams / full.seconds;
  p.memory_bytes_per_token = early.memory_bytes / streams;
  p.disk_bytes_per_token = early.disk_bytes / streams;
  p.binds = early.binds();
}

}  // namespace venturi
