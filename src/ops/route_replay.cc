#include "ops/route_replay.h"

#include <algorithm>
#include <cassert>

namespace venturi {

namespace {

size_t layer_of(const std::vector<const Weight*>& gates, const Weight& gate) {
  const auto at = std::find(gates.begin(), gates.end(), &gate);
  assert(at != gates.end());
  return static_cast<size_t>(at - gates.begin());
}

}  // namespace

std::vector<const Weight*> mixture_gates(const WeightCatalog& catalog) {
  std::vector<const Weight*> gates;
  for (const auto& weight : catalog.matrices())
    if (weight->name.find("ffn_gate_exps") != std::string::npos) gates.push_back(weight.get());
  return gates;
}

int64_t experts_used(const ModelFile& file) {
  const auto architecture = file.metadata.get_string("general.architecture");
  if (!architecture) return 0;
  const auto used = file.metadata.get_uint(fmt::format("{}.expert_used_count", *architecture));
  return used ? static_cast<int64_t>(*used) : 0;
}

Result<RouteReplay> RouteReplay::create(RoutingTrace trace, std::vector<const Weight*> gates, int64_t top_k) {
  if (gates.empty())
    return error(Code::kInvalidArgument, "the model has no mixture of experts; there is nothing to route");
  for (const Weight* gate : gates)
    if (static_cast<int64_t>(gates.size()) != trace.n_layers || gate->n_planes != trace.n_experts ||
        top_k != trace.top_k)
      return error(Code::kInvalidArgument,
                   "the trace is of {} layers of {} experts, {} used by a token; the model has {} of {}, {} used",
                   trace.n_layers, trace.n_experts, trace.top_k, gates.size(), gate->n_planes, top_k);
  RouteReplay replay;
  replay.rows_done_.resize(gates.size());
  replay.trace_ = std::move(trace);
  replay.gates_ = std::move(gates);
  return replay;
}

void RouteReplay::set_streams(int64_t streams) {
  if (streams == streams_) return;
  streams_ = streams;
  std::fill(rows_done_.begin(), rows_done_.end(), 0);
}

void RouteReplay::choose(const Weight& gate, int32_t* chosen, int64_t rows, int64_t top_k) {
  assert(top_k == trace_.top_k);
  const size_t layer = layer_of(gates_, gate);
  const int64_t tokens = trace_.n_tokens(), apart = tokens / streams_;
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t row = rows_done_[layer] + r;
    const auto from = trace_.at((row % streams_ * apart + row / streams_) % tokens, static_cast<int64_t>(layer));
    std::copy_n(from.begin(), top_k, chosen + r * top_k);
  }
  rows_done_[layer] += rows;
}

RouteRecorder::RouteRecorder(std::vector<const Weight*> gates) : gates_(std::move(gates)), by_layer_(gates_.size()) {}

void RouteRecorder::routed(const Weight& gate, const int32_t* chosen, int64_t rows, int64_t top_k) {
  top_k_ = top_k;
  auto& layer = by_layer_[layer_of(gates_, gate)];
  layer.insert(layer.end(), chosen, chosen + rows * top_k);
}

RoutingTrace RouteRecorder::trace() const {
  RoutingTrace trace{.n_layers = static_cast<int64_t>(gates_.size()),
                     .n_experts = gates_.empty() ? 0 : gates_[0]->n_planes,
                     .top_k = top_k_,
                     .choices = {}};
  const size_t tokens = by_layer_.empty() ? 0 : by_layer_[0].size() / static_cast<size_t>(top_k_);
  for (size_t t = 0; t < tokens; ++t)
    for (const auto& layer : by_layer_)
      trace.choices.insert(trace.choices.end(), layer.begin() + static_cast<int64_t>(t) * top_k_,
                           layer.begin() + static_cast<int64_t>(t + 1) * top_k_);
  return trace;
}

}  // namespace venturi
