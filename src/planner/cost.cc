#include "planner/cost.h"

#include <algorithm>
#include <cassert>
#include <cmath>

#include "base/checked.h"
#include "base/disk.h"
#include "memory/experts/expert_layout.h"
#include "memory/residency.h"

namespace venturi {

namespace {

// How a model routes no header says: on the committed trace, which was fitted to published consistency, 0.42, 0.62,
// 0.74 and 0.82 of what tokens choose are found with an eighth, a quarter, three eighths and half held; share^0.4 is a
// little below.
constexpr double kFound = 0.4;
// Until the first byte of what a layer has asked for is there, its product waited for, and the next layer's attention
// begins: what neither the disk's rate nor the products' has (measured, docs/performance.md).
constexpr double kBurstSeconds = 0.4e-3;
// What attention reaches of the f32 peak, and how many regions of the pool it takes.
constexpr double kAttentionShare = 0.5;
constexpr double kAttentionRegions = 4;
// Norms, gates and sums beside the products they stand between, where many rows make products slow; a
// step of one row costs them as regions.
constexpr double kRowOpsShare = 0.025;

bool int8_input(const Weight& w) { return w.codec->layout ? w.codec->layout->int8_input : w.codec->group > 0; }

int64_t pinned_rows(const Weight& w) { return std::min(w.pinned_rows, w.n_out); }

// Blocks that cover the pieces in which a plane's rows behind the pinned ones are read.
double streamed_bytes(const CostInputs& in, const Weight& w, int64_t plane) {
  const int64_t first = pinned_rows(w);
  if (first >= w.n_out) return 0;
  const int64_t rows = segment_rows(w, first, in.residency.segment_bytes);
  double bytes = 0;
  for (int64_t row = first; row < w.n_out; row += rows) {
    const auto run = file_run(in.catalog.file(), w, plane, row, std::min(w.n_out, row + rows));
    if (run) bytes += static_cast<double>(disk_cover(run->offset, run->bytes));
  }
  return bytes;
}

// What a step asks of the experts.
struct ExpertUse {
  double cached_share = 0;  // of all experts, those that the cache has slots for
  double layers = 0, asked = 0;  // mixtures, and experts that they ask for
};

ExpertUse expert_use(const CostInputs& in, std::span<const WeightUse> uses) {
  ExpertUse experts;
  if (in.residency.expert_cache_bytes == 0) return experts;
  for (const WeightUse& use : uses) experts.asked += use.use == Use::kRouted;
  experts.asked /= kExpertParts;
  experts.layers = static_cast<double>(in.catalog.experts().size());
  if (const auto layout = ExpertLayout::of(in.catalog))
    experts.cached_share = static_cast<double>(layout->slots_in(in.residency.expert_cache_bytes)) / static_cast<double>(layout->units());
  return experts;
}

class Adding {
 public:
  explicit Adding(const CostInputs& in) : in_(in) {}

  // `rows` rows of input times a plane of a weight.
  void product(const WeightUse& use, double rows) {
    const Weight& w = *use.weight;
    const int64_t pinned = pinned_rows(w);
    const bool packed = in_.repack && w.codec->layout;
    const double inside = static_cast<double>(pinned * w.n_in), outside = static_cast<double>((w.n_out - pinned) * w.n_in);
    const double before = f_.compute_seconds;
    if (inside > 0) f_.compute_seconds += inside / rate(w, packed, rows);
    // An expert that is found has been interleaved where it lies; one that comes from the disk is used as it came.
    const double found = use.use == Use::kRouted && in_.residency.expert_cache_bytes > 0 ? 1 - missed_ : 0;
    if (outside > 0) f_.compute_seconds += outside * (found / rate(w, packed, rows) + (1 - found) / rate(w, false, rows));
    if (rows > 8) f_.compute_seconds += kRowOpsShare * (f_.compute_seconds - before);
    memory(static_cast<double>(w.held_bytes(pinned, in_.repack)) + outside * w.codec->bits_per_weight() / 8);
    if (outside == 0) return;
    const double read = streamed_bytes(in_, w, use.plane) * (use.use == Use::kRouted ? missed_ : 1);
    f_.disk_bytes += read;
    if (in_.residency.expert_cache_bytes > 0 && use.use == Use::kRouted) asked_bytes_ += read;
  }

  void table_rows(const Weight& w, double rows) {
    if (pinned_rows(w) < w.n_out)
      f_.disk_bytes += rows * static_cast<double>(disk_cover(kDiskAlign / 2, w.row_bytes));
  }

  void other(const OpCost& cost, bool attention) {
    const double bytes = static_cast<double>(cost.state_bytes + cost.weight_bytes);
    const double macs = static_cast<double>(cost.f32_macs + cost.int8_macs);
    const MachineProfile& p = in_.profile;
    f_.compute_seconds += p.region_seconds * (attention ? kAttentionRegions : 1) +
                          std::max(bytes / p.read_bytes_per_second.median,
                                   macs / (kAttentionShare * p.f32_macs_per_second.median));
    memory(bytes);
  }

  // The feed-forwards read by neuron: those that any of the rows needs, once a step.
  void neurons(std::span<const NeuronLayer> layers, double rows) {
    if (!in_.neurons || !in_.neurons->used()) return;
    double all = 0;
    for (const NeuronLayer& l : layers)
      if (l.down->bundles) all += bundle_bytes(l);
    if (all == 0) return;
    const double needed = 1 - std::pow(1 - in_.active_neurons, rows);
    const double outside = 1 - std::min(1.0, static_cast<double>(in_.neurons->window_bytes) / all);
    const MachineProfile& p = in_.profile;
    for (const NeuronLayer& l : layers) {
      if (!l.down->bundles) continue;
      double bytes = static_cast<double>(l.down->file_bytes()), values = static_cast<double>(l.down->n_in * l.down->n_out);
      if (l.gate) bytes += static_cast<double>(l.up->file_bytes()), values *= 2;
      f_.compute_seconds += std::max(needed * bytes / p.read_bytes_per_second.median,
                                     in_.active_neurons * rows * values / (kAttentionShare * p.f32_macs_per_second.median));
      memory(needed * bytes);
      const double read = needed * outside * bundle_bytes(l);
      f_.disk_bytes += read;
      // A request costs about what its gap would; where nearly all are wanted, they join.
      const auto gaps = needed * outside * static_cast<double>(l.down->bundles->layout.n_neurons * in_.neurons->gap_bytes);
      gap_bytes_ += std::min(gaps, std::max(0.0, bundle_bytes(l) - read));
    }
  }

  // Experts that a cache holds a share of are not read. A prompt asks for nearly all experts of a layer and finds what
  // is held; tokens one at a time choose again what was chosen.
  void cached(const ExpertUse& experts, bool decodes) {
    const double share = std::min(1.0, experts.cached_share);
    const double found = in_.experts_found >= 0 ? in_.experts_found : std::pow(share, kFound);
    missed_ = 1 - (decodes ? found : std::min(share, found));
    if (share > 0 && experts.layers > 0)
      bursts_ = experts.layers * (1 - std::pow(1 - missed_, experts.asked / experts.layers));
  }

  // What a step reads back of the sequences' state: all that memory has no place for.
  void state(const Step& step) {
    if (!in_.state || !in_.state->spills()) return;
    int64_t blocks = 0;
    for (const Span& span : step.spans) blocks += ceil_div(span.position + span.n_rows, kPageTokens);
    const double beyond = static_cast<double>(std::max<int64_t>(0, blocks - in_.state->resident_blocks));
    f_.disk_bytes += beyond * static_cast<double>(in_.state->file_bytes) / static_cast<double>(in_.state->blocks);
  }

  double computed() const { return f_.compute_seconds; }

  // `beside`: seconds of what is computed between an early router's choice and its experts.
  StepForecast finish(double beside) {
    f_.memory_seconds = f_.memory_bytes / in_.profile.read_bytes_per_second.median;
    const double disk_rate = in_.profile.disk_bytes_per_second(in_.residency.request_bytes, in_.residency.depth, in_flight_bytes(in_.residency));
    if (f_.disk_bytes > 0 && disk_rate > 0) f_.disk_seconds = (f_.disk_bytes + gap_bytes_) / disk_rate;
    const double asked = f_.disk_bytes > 0 ? f_.disk_seconds * asked_bytes_ / (f_.disk_bytes + gap_bytes_) : 0, ahead = f_.disk_seconds - asked;
    f_.seconds = std::max(f_.compute_seconds, ahead) + kExposed * std::min(f_.compute_seconds, ahead) +
                 std::max(0.0, asked + bursts_ * kBurstSeconds - beside);
    return f_;
  }

 private:
  double rate(const Weight& w, bool packed, double rows) const {
    return in_.profile.weights_per_second(w.codec->name, w.codec->bits_per_weight(), int8_input(w), packed, rows);
  }
  void memory(double bytes) { f_.memory_bytes += bytes; }
  static double bundle_bytes(const NeuronLayer& l) {
    return static_cast<double>(l.down->bundles->layout.n_neurons * l.down->bundles->layout.bytes);
  }

  const CostInputs& in_;
  StepForecast f_;
  double missed_ = 1;
  double bursts_ = 0;       // layers in which experts are read when they have routed
  double asked_bytes_ = 0;  // of the bytes from disk, those known only when a layer has routed
  double gap_bytes_ = 0;  // that requests for single neurons cost beside those they read
};

}  // namespace

StepForecast& StepForecast::operator+=(const StepForecast& o) {
  compute_seconds += o.compute_seconds;
  memory_seconds += o.memory_seconds;
  disk_seconds += o.disk_seconds;
  seconds += o.seconds;
  memory_bytes += o.memory_bytes;
  disk_bytes += o.disk_bytes;
  return *this;
}

StepForecast operator*(StepForecast f, double times) {
  for (double* part : {&f.compute_seconds, &f.memory_seconds, &f.disk_seconds, &f.seconds, &f.memory_bytes, &f.disk_bytes})
    *part *= times;
  return f;
}

std::string_view StepForecast::binds() const {
  if (disk_seconds > compute_seconds) return "disk";
  return memory_seconds > 0.5 * compute_seconds ? "memory" : "compute";
}

uint64_t in_flight_bytes(const ResidencyPlan& r) {
  if (r.window_bytes == 0) return UINT64_MAX;
  // The smallest windows hold two pieces, of as few rows as can stand alone.
  return std::max(r.window_bytes / 2, r.window_bytes - std::min(r.window_bytes, r.segment_bytes));
}

StepForecast forecast_step(const CostInputs& in, const Step& step) {
  const auto context = Context::shape(in.threads);
  // Tiles would ask for a streamed weight once each.
  if (in.residency.streams()) context->set_row_tile(0);
  (void)in.model.forward(*context, step);
  Adding sum(in);
  sum.cached(expert_use(in, context->uses()),
             std::all_of(step.spans.begin(), step.spans.end(), [](const Span& span) { return span.n_rows == 1; }));
  // Products are noted in the order of the ops that compute them: an op's are those whose bytes make up its own.
  auto use = context->uses().begin();
  const auto end = context->uses().end();
  // What is gathered by neuron is costed by itself.
  const auto is_product = [](const WeightUse& u) {
    return (u.use == Use::kProduct || u.use == Use::kRouted) && !u.weight->bundles;
  };
  // The head comes after the last layer.
  const Weight* head = nullptr;
  for (const WeightUse& u : context->uses())
    if (u.use == Use::kProduct) head = u.weight;
  const std::vector<ExpertStack>& experts = in.catalog.experts();
  const bool early = !experts.empty() && experts[0].chosen_early;
  double beside = 0;
  for (const OpCost& cost : context->costs()) {
    if (cost.op == "neurons") continue;
    const double before = sum.computed();
    if (cost.op != "linear") {
      sum.other(cost, cost.op == "attend");
      if (early && cost.op == "attend") beside += sum.computed() - before;
      continue;
    }
    std::vector<WeightUse> products;
    uint64_t bytes = 0;
    double values = 0;
    for (; use != end && bytes < cost.weight_bytes; ++use) {
      if (!is_product(*use)) continue;
      products.push_back(*use);
      bytes += use->weight->row_bytes * static_cast<uint64_t>(use->weight->n_out);
      values += static_cast<double>(use->weight->n_in * use->weight->n_out);
    }
    assert(bytes == cost.weight_bytes);
    for (const WeightUse& product : products)
      sum.product(product, static_cast<double>(cost.int8_macs + cost.f32_macs) / values);
    if (early && products[0].use == Use::kProduct && products[0].weight != head) beside += sum.computed() - before;
  }
  for (const WeightUse& u : context->uses())
    if (u.use == Use::kRows) sum.table_rows(*u.weight, static_cast<double>(step.n_rows()));
  sum.neurons(context->neuron_layers(), static_cast<double>(step.n_rows()));
  sum.state(step);
  return sum.finish(beside);
}

StepForecast forecast_prefill(const CostInputs& in, int64_t tokens, int64_t batch, int64_t position) {
  StepForecast total;
  for (int64_t at = 0; at < tokens; at += batch) {
    const int64_t n = std::min(batch, tokens - at);
    Step step;
    step.tokens.assign(static_cast<size_t>(n), 0);
    step.spans = {{.row_begin = 0, .n_rows = n, .position = position + at, .state = nullptr}};
    if (at + n == tokens) step.output_rows = {n - 1};
    total += forecast_step(in, step);
  }
  return total;
}

StepForecast forecast_decode(const CostInputs& in, int64_t streams, int64_t position) {
  Step step;
  for (int64_t s = 0; s < streams; ++s) {
    step.tokens.push_back(0);
    step.spans.push_back({.row_begin = s, .n_rows = 1, .position = position, .state = nullptr});
    step.output_rows.push_back(s);
  }
  return forecast_step(in, step);
}

}  // namespace venturi
