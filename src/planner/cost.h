// What a step will take on a machine: a pure function of shape mode, residency and profile.
//
// A step's ops are costed one by one. A product of weights goes at the rate that the profile has for its
// codec, its rows of input and how the weights are held: interleaved in memory, or as in the file, which
// is how streamed pieces come. Every other op costs a region of the thread pool and the larger of its
// bytes over the read bandwidth and its multiply-adds over a share of the f32 peak. Streamed pieces are
// read while others are computed, so
//
//   seconds = max(compute, disk bytes / disk rate) + kExposed * min(compute, disk bytes / disk rate)
//
// and what is known only when a layer has routed, the experts that a cache lacks, is added to that: nothing waits to be
// computed meanwhile but the experts that it has; and the attention, where the router sees what enters the layer.
//
// Of a feed-forward whose neurons are read one by one, how many are active is not in any header: it is assumed
// (active_neurons, of a row), as is that those in memory are no likelier to be active than others. Neurons that stay
// because they were active recently are, so a run reads less.
//
// Nor is it how a mixture routes: experts_found, from a trace of its routes, or what published consistency figures suggest.
//
// Units: bytes, seconds. Runs nothing, reads nothing.
#pragma once

#include "memory/neurons/neuron_store.h"
#include "models/architecture.h"
#include "planner/profile.h"

namespace venturi {

struct StepForecast {
  double compute_seconds = 0;  // of ops, were all bytes there
  double memory_seconds = 0;   // the part of it that the read bandwidth asks for
  double disk_seconds = 0;
  double seconds = 0;          // all together
  double memory_bytes = 0;     // weights and state read from memory
  double disk_bytes = 0;       // whole blocks

  StepForecast& operator+=(const StepForecast& o);
  std::string_view binds() const;  // "disk", "memory" or "compute"
};

// So many times the same.
StepForecast operator*(StepForecast f, double times);

// What is predicted of a run, and what was measured of it.
struct Figures {
  double tokens_per_second = 0;
  uint64_t peak_memory_bytes = 0;
  double disk_bytes_per_token = 0;
};

// The part of the shorter of compute and reading that the longer does not cover.
inline constexpr double kExposed = 0.04;

// Of the published models with a ReLU, one neuron in ten and fewer are active (Mirzadeh et al., "ReLU strikes back", 2023;
// Alizadeh et al., "LLM in a flash", 2024).
inline constexpr double kActiveNeurons = 0.1;

struct CostInputs {
  const Model& model;
  const WeightCatalog& catalog;  // pinned as the residency says
  const ResidencyPlan& residency;
  const MachineProfile& profile;
  int threads = 1;
  bool repack = true;
  const StatePlan* state = nullptr;  // null: all of it in memory
  const NeuronPlan* neurons = nullptr;  // of the catalog's bundles; null or not used(): there are none
  double active_neurons = kActiveNeurons;
  // Of the experts that a step of a few rows asks for, the share that the cache has; negative: as mixtures commonly route.
  double experts_found = -1;
};

// What a stream may have asked for at once: its window but for the piece that is in use; UINT64_MAX where no window bounds it.
uint64_t in_flight_bytes(const ResidencyPlan& residency);

// One step in shape mode.
StepForecast forecast_step(const CostInputs& in, const Step& step);
// `tokens` of a prompt in steps of `batch`, from `position` on; the last row's logits are wanted.
StepForecast forecast_prefill(const CostInputs& in, int64_t tokens, int64_t batch, int64_t position = 0);
// One token for each of `streams` sequences of `position` tokens.
StepForecast forecast_decode(const CostInputs& in, int64_t streams, int64_t position);

}  // namespace venturi
