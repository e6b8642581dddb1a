#include "engine/sparse.h"

#include <algorithm>
#include <filesystem>
#include <unordered_set>

#include "base/log.h"

namespace venturi {

namespace {

// Of the budget, for neurons however little of the other weights can be pinned.
constexpr uint64_t kNeuronShare = 16;
// A request costs about as much as reading so many bytes in a row: below 70 thousand requests and above 1.2 GB a
// second were seen on the disks here.
constexpr uint64_t kGapBytes = 8u << 10;

uint64_t all_bundle_bytes(const Sidecar& sidecar) {
  uint64_t bytes = 0;
  for (const auto& layer : sidecar.layers()) bytes += layer->layout.n_neurons * layer->layout.bytes;
  return bytes;
}

// With everything pinned that is more than a table of rows.
uint64_t dense_bytes(WeightCatalog& catalog, std::span<const WeightUse> uses, bool repack) {
  std::unordered_set<const Weight*> used;
  for (const WeightUse& use : uses)
    if (use.use != Use::kRows) used.insert(use.weight);
  catalog.pin_all();
  for (const auto& w : catalog.matrices())
    if (!used.contains(w.get()) && can_stream(catalog.file(), *w)) w->pinned_rows = 0;
  const uint64_t bytes = catalog.bytes(repack);
  catalog.pin_all();
  return bytes;
}

}  // namespace

std::vector<NeuronLayer> neuron_layers(const Model& model) {
  const auto context = Context::shape(1);
  Step step;
  step.tokens = {0};
  step.spans = {{.row_begin = 0, .n_rows = 1, .position = 0, .state = nullptr}};
  step.output_rows = {0};
  (void)model.forward(*context, step);
  return context->neuron_layers();
}

Result<std::unique_ptr<Sidecar>> find_sidecar(const ModelFile& file, const Model& model, const EngineOptions& options) {
  const bool named = !options.sidecar.empty();
  if (!options.sparse) return std::unique_ptr<Sidecar>();
  const std::string path = named ? options.sidecar : sidecar_path(file.path);
  std::error_code ignored;
  if (!named && !std::filesystem::is_regular_file(path, ignored)) return std::unique_ptr<Sidecar>();
  const std::vector<NeuronLayer> layers = neuron_layers(model);
  if (layers.empty()) {
    if (!named) return std::unique_ptr<Sidecar>();
    return error(Code::kUnsupported, "{} has no feed-forward with a ReLU; a sidecar is of no use to it", file.path);
  }
  auto sidecar = Sidecar::open(path, file, layers);
  if (!sidecar && !named) {
    spdlog::warn("{}; without it all neurons are read", sidecar.error().message);
    return std::unique_ptr<Sidecar>();
  }
  return sidecar;
}

void set_bundles(WeightCatalog& catalog, const Sidecar& sidecar, bool on) {
  for (const auto& weight : catalog.matrices())
    for (const auto& layer : sidecar.layers())
      if (weight.get() == layer->weights.down || (layer->weights.gate && weight.get() == layer->weights.up))
        weight->bundles = on ? layer.get() : nullptr;
  catalog.pin_all();
}

NeuronPlan least_neuron_plan(const Sidecar& sidecar) {
  NeuronPlan plan{.gap_bytes = kGapBytes};
  plan.ring_bytes = least_neuron_ring(sidecar, plan);
  return plan;
}

Result<SparsePlan> plan_sparse(WeightCatalog& catalog, std::span<const WeightUse> uses, const Sidecar& sidecar,
                               uint64_t budget, const ResidencyWishes& wishes) {
  SparsePlan plan;
  plan.neurons = least_neuron_plan(sidecar);
  const uint64_t ring = std::min<uint64_t>(budget / 32, 32u << 20), least_ring = plan.neurons.ring_bytes;
  plan.neurons.ring_bytes = std::max(least_ring, ring);
  const uint64_t all = all_bundle_bytes(sidecar);
  // Tables are counted as if every neuron stayed.
  NeuronPlan whole = plan.neurons;
  whole.window_bytes = all;
  uint64_t fixed = neuron_memory(sidecar, whole) - Buffer::held_bytes(all);
  const uint64_t least = least_residency_bytes(catalog, uses, wishes.repack);
  if (fixed + least > budget) {
    plan.neurons.ring_bytes = whole.ring_bytes = least_ring;
    fixed = neuron_memory(sidecar, whole) - Buffer::held_bytes(all);
  }
  if (fixed > budget)
    return error(Code::kOutOfBudget, "the scales of the neurons and a ring to read them take {}, {} are left for them",
                 format_bytes(fixed), format_bytes(budget));
  const uint64_t room = budget - fixed;
  const uint64_t reserve = std::min({room / kNeuronShare, all, room - std::min(room, least)});
  const uint64_t dense = dense_bytes(catalog, uses, wishes.repack);
  const uint64_t wanted = std::max(std::min(room - reserve, dense), room - std::min(room, all));
  plan.residency = TRY(plan_residency(catalog, uses, wanted, wishes));
  const uint64_t taken = forecast_residency(catalog, uses, plan.residency, wishes.repack).memory();
  // Whole pages, huge ones once there is much to hold.
  const uint64_t left = room - std::min(room, taken), page = left < (8u << 20) ? 4096 : 2u << 20;
  plan.neurons.window_bytes = std::min(all, left / page * page);
  while (plan.neurons.window_bytes > 0 && Buffer::held_bytes(plan.neurons.window_bytes) > left)
    plan.neurons.window_bytes -= std::min<uint64_t>(plan.neurons.window_bytes, page);
  return plan;
}

}  // namespace venturi
