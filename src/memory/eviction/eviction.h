// Which expert leaves a full cache: one file per policy in this folder, each with one descriptor
// `const Eviction eviction_x`. The build lists the folder and writes the registry.
//
// A policy is told, layer by layer, what was chosen, and says what each resident expert is worth
// keeping. It may be wrong but not random: its answers are a function of what it was told, so a run
// and its simulation make the same decisions. Threads: one at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

namespace venturi {

struct ExpertShape {
  int64_t n_layers = 0;   // with experts, in order of use
  int64_t n_experts = 0;  // of each layer
  int64_t units() const { return n_layers * n_experts; }
};

class Evictor {
 public:
  virtual ~Evictor() = default;
  // A step reaches `layer`, whose rows chose these experts (each once). Layers come in cyclic order.
  virtual void chosen(int64_t layer, std::span<const int32_t> experts) = 0;
  // The resident of least worth leaves first; of equal ones, the one of the lower unit, which is
  // layer * n_experts + expert.
  virtual double worth(int64_t layer, int32_t expert) const = 0;
  // How likely `expert` is among the choices when `layer` is next reached, in [0, 1]; for reading
  // ahead. 0 from policies that do not forecast.
  virtual double likelihood(int64_t layer, int32_t expert) const {
    (void)layer, (void)expert;
    return 0;
  }
};

struct Eviction {
  std::string_view name, summary;
  std::unique_ptr<Evictor> (*create)(const ExpertShape& shape);
};

std::span<const Eviction* const> all_evictions();
const Eviction* find_eviction(std::string_view name);  // null if there is none

}  // namespace venturi
