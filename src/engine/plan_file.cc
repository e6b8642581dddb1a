// Plans as JSON.
#include <algorithm>
#include <unordered_set>

#include "base/file.h"
#include "engine/plan.h"

namespace venturi {

namespace {

constexpr uint64_t kMaxFileBytes = 64u << 20;
constexpr size_t kMaxPlans = 1000, kMaxWeights = 1u << 20;
constexpr double kMost = 1e18;

Json prediction_json(const Prediction& p) {
  Json json{{"tokens_per_second", p.tokens_per_second},
          {"tokens_per_second_full_context", p.tokens_per_second_full},
          {"prefill_tokens_per_second", p.prefill_tokens_per_second},
          {"prompt_tokens", p.prompt},
          {"first_token_seconds", p.first_token_seconds},
          {"peak_memory_bytes", p.peak_memory_bytes},
          {"memory_bytes_per_token", p.memory_bytes_per_token},
          {"disk_bytes_per_token", p.disk_bytes_per_token}};
  if (p.active_neurons > 0) json["active_neurons"] = p.active_neurons;
  if (p.experts_found > 0) json["experts_found"] = p.experts_found;
  return json;
}

Result<Prediction> prediction_from(const Fields& f) {
  Prediction p;
  p.tokens_per_second = TRY(f.number("tokens_per_second", 0, kMost));
  p.tokens_per_second_full = TRY(f.number("tokens_per_second_full_context", 0, kMost));
  p.prefill_tokens_per_second = TRY(f.number("prefill_tokens_per_second", 0, kMost));
  p.prompt = TRY(f.integer("prompt_tokens", 0, int64_t{1} << 40));
  p.first_token_seconds = TRY(f.number("first_token_seconds", 0, kMost));
  p.peak_memory_bytes = TRY(f.bytes("peak_memory_bytes"));
  p.memory_bytes_per_token = TRY(f.number("memory_bytes_per_token", 0, kMost));
  p.disk_bytes_per_token = TRY(f.number("disk_bytes_per_token", 0, kMost));
  if (f.has("active_neurons")) p.active_neurons = TRY(f.number("active_neurons", 0, 1));
  if (f.has("experts_found")) p.experts_found = TRY(f.number("experts_found", 0, 1));
  return p;
}

Json options_json(const EngineOptions& o) {
  Json json;
  if (o.memory != Ledger::kUnlimited) json["memory"] = o.memory;
  json["context"] = o.context;
  json["batch"] = o.batch;
  json["streams"] = o.sequences;
  json["threads"] = o.threads;
  json["repack"] = o.repack;
  json["sparse"] = o.sparse;
  if (!o.sidecar.empty()) json["sidecar"] = o.sidecar;
  if (o.state_memory > 0) json["state_memory"] = o.state_memory;
  if (o.spill) json["spill"] = *o.spill;
  return json;
}

Result<EngineOptions> options_from(const Fields& f) {
  EngineOptions o;
  if (f.has("memory")) o.memory = TRY(f.bytes("memory"));
  o.context = TRY(f.integer("context", 1, int64_t{1} << 40));
  o.batch = TRY(f.integer("batch", 1, 1 << 30));
  o.sequences = static_cast<int>(TRY(f.integer("streams", 1, 4096)));
  o.threads = static_cast<int>(TRY(f.integer("threads", 1, 1024)));
  o.repack = TRY(f.boolean("repack"));
  // Plans of before have none of these.
  o.sparse = f.has("sparse") && TRY(f.boolean("sparse"));
  if (f.has("sidecar")) o.sidecar = TRY(f.text("sidecar"));
  if (f.has("state_memory")) o.state_memory = TRY(f.bytes("state_memory"));
  if (f.has("spill")) o.spill = TRY(f.text("spill"));
  return o;
}

Json residency_json(const Plan& plan) {
  const ResidencyPlan& r = plan.residency;
  Json json{{"streams", r.streams()},
            {"segment_bytes", r.segment_bytes},
            {"window_bytes", r.window_bytes},
            {"routed_bytes", r.routed_bytes},
            {"request_bytes", r.request_bytes},
            {"depth", r.depth},
            {"expert_cache_bytes", r.expert_cache_bytes},
            {"expert_policy", r.expert_policy},
            {"expert_guesses", r.expert_guesses},
            {"weights", Json::array()}};
  // Slots decide what is found; the bytes are theirs and some to interleave in.
  if (plan.experts > 0) {
    json["expert_slots"] = plan.expert_slots;
    json["experts"] = plan.experts;
  }
  for (const PlannedWeight& w : plan.weights) {
    json["weights"].push_back({{"name", w.name}, {"codec", w.codec}, {"rows", w.rows}, {"pinned_rows", w.pinned_rows},
                               {"pinned_bytes", w.pinned_bytes}, {"streamed_bytes", w.streamed_bytes}});
    if (w.by_neuron) json["weights"].back()["by_neuron"] = true;
  }
  return json;
}

Status residency_from(const Fields& f, Plan& plan) {
  ResidencyPlan& r = plan.residency;
  r.segment_bytes = static_cast<uint64_t>(TRY(f.integer("segment_bytes", 1, 1 << 30)));
  r.window_bytes = TRY(f.bytes("window_bytes"));
  r.routed_bytes = TRY(f.bytes("routed_bytes"));
  r.request_bytes = static_cast<uint64_t>(TRY(f.integer("request_bytes", 4096, 1 << 30)));
  r.depth = static_cast<int>(TRY(f.integer("depth", 1, 4096)));
  r.expert_cache_bytes = TRY(f.bytes("expert_cache_bytes"));
  if (r.expert_cache_bytes > 0) {
    r.expert_policy = TRY(f.text("expert_policy"));
    r.expert_guesses = TRY(f.boolean("expert_guesses"));
    // Plans of before do not have these.
    if (f.has("experts")) plan.experts = TRY(f.integer("experts", 1, int64_t{1} << 40));
    if (f.has("expert_slots")) plan.expert_slots = TRY(f.integer("expert_slots", 1, int64_t{1} << 40));
  }
  std::unordered_set<std::string> names;
  for (const Fields& w : TRY(f.objects("weights", kMaxWeights))) {
    PlannedWeight weight;
    weight.name = TRY(w.text("name"));
    weight.codec = TRY(w.text("codec"));
    weight.rows = TRY(w.integer("rows", 0, int64_t{1} << 40));
    weight.pinned_bytes = TRY(w.bytes("pinned_bytes"));
    weight.streamed_bytes = TRY(w.bytes("streamed_bytes"));
    weight.pinned_rows = TRY(w.integer("pinned_rows", 0, weight.rows));
    if (!names.insert(weight.name).second)
      return error(Code::kCorrupt, "\"{}\" is there twice in the weights of plan {}", weight.name, plan.name);
    weight.by_neuron = w.has("by_neuron") && TRY(w.boolean("by_neuron"));
    if (weight.pinned_rows < weight.rows && !weight.by_neuron) r.weights.push_back({weight.name, weight.pinned_rows});
    plan.weights.push_back(std::move(weight));
  }
  return {};
}

Json neurons_json(const NeuronPlan& n) {
  return {{"window_bytes", n.window_bytes}, {"ring_bytes", n.ring_bytes}, {"gap_bytes", n.gap_bytes},
          {"request_bytes", n.request_bytes}, {"depth", n.depth}};
}

Result<NeuronPlan> neurons_from(const Fields& f) {
  NeuronPlan n;
  n.window_bytes = TRY(f.bytes("window_bytes"));
  n.ring_bytes = TRY(f.bytes("ring_bytes"));
  n.gap_bytes = TRY(f.bytes("gap_bytes"));
  n.request_bytes = static_cast<uint64_t>(TRY(f.integer("request_bytes", 4096, 1 << 30)));
  n.depth = static_cast<int>(TRY(f.integer("depth", 1, 1024)));
  return n;
}

Json plan_json(const Plan& plan) {
  const Footprint& f = plan.footprint;
  Json json{{"name", plan.name},
          {"predicted", prediction_json(plan.predicted)},
          {"binds", plan.predicted.binds},
          {"options", options_json(plan.options)},
          {"footprint", {{"weights", f.weights}, {"windows", f.windows}, {"staging", f.staging}, {"state", f.state},
                         {"activations", f.activations}, {"neurons", f.neurons}, {"state_file", f.state_file}}},
          {"residency", residency_json(plan)}};
  if (!plan.state_type.empty()) json["footprint"]["state_type"] = plan.state_type;
  if (f.adapters > 0) json["footprint"]["adapters"] = f.adapters;
  if (plan.neurons.used()) json["neurons"] = neurons_json(plan.neurons);
  return json;
}

Result<Plan> plan_from(const Fields& f) {
  Plan plan;
  plan.name = TRY(f.text("name"));
  plan.predicted = TRY(prediction_from(TRY(f.object("predicted"))));
  plan.predicted.binds = TRY(f.text("binds"));
  plan.options = TRY(options_from(TRY(f.object("options"))));
  const Fields footprint = TRY(f.object("footprint"));
  plan.footprint.weights = TRY(footprint.bytes("weights"));
  plan.footprint.windows = TRY(footprint.bytes("windows"));
  plan.footprint.staging = TRY(footprint.bytes("staging"));
  plan.footprint.state = TRY(footprint.bytes("state"));
  plan.footprint.activations = TRY(footprint.bytes("activations"));
  if (footprint.has("adapters")) plan.footprint.adapters = TRY(footprint.bytes("adapters"));
  if (footprint.has("neurons")) plan.footprint.neurons = TRY(footprint.bytes("neurons"));
  if (footprint.has("state_file")) plan.footprint.state_file = TRY(footprint.bytes("state_file"));
  if (footprint.has("state_type")) plan.state_type = TRY(footprint.text("state_type"));
  TRY(residency_from(TRY(f.object("residency")), plan));
  if (f.has("neurons")) plan.neurons = TRY(neurons_from(TRY(f.object("neurons"))));
  return plan;
}

Result<PlanFile> file_from(const Fields& f) {
  PlanFile file;
  const Fields model = TRY(f.object("model"));
  file.model = TRY(model.text("path"));
  file.model_bytes = TRY(model.bytes("bytes"));
  file.fingerprint = TRY(model.text("fingerprint"));
  file.profile = TRY(profile_from(TRY(f.object("profile"))));
  for (const Fields& plan : TRY(f.objects("plans", kMaxPlans))) file.plans.push_back(TRY(plan_from(plan)));
  if (file.plans.empty()) return error(Code::kCorrupt, "\"plans\" has no plan");
  for (const Plan& plan : file.plans)
    if (file.profile.disk.rates.empty() && (plan.residency.streams() || plan.neurons.used() || plan.footprint.state_file > 0))
      return error(Code::kCorrupt, "plan {} reads the disk, and \"profile.disk\" has no rates to predict it from", plan.name);
  if (f.has("assumptions")) file.assumptions = TRY(f.texts("assumptions", kMaxPlans));
  return file;
}

}  // namespace

Json plan_file_json(const PlanFile& file) {
  Json json;
  json["format"] = std::string(PlanFile::kFormat);
  json["version"] = PlanFile::kVersion;
  json["model"] = {{"path", file.model}, {"bytes", file.model_bytes}, {"fingerprint", file.fingerprint}};
  json["assumptions"] = file.assumptions;
  json["plans"] = Json::array();
  for (const Plan& plan : file.plans) json["plans"].push_back(plan_json(plan));
  json["profile"] = profile_json(file.profile);
  return json;
}

Result<PlanFile> parse_plan_file(std::string_view text, std::string_view path) {
  const Json json = TRY(parse_document(text, path, PlanFile::kFormat, PlanFile::kVersion));
  auto file = file_from(Fields(json, ""));
  if (!file) return std::move(file).error().within(path);
  return file;
}

Result<PlanFile> read_plan_file(const std::string& path) {
  return parse_plan_file(TRY(read_text_file(path, kMaxFileBytes)), path);
}

}  // namespace venturi
