// Which neurons of a feed-forward are in memory: those that were active last, as many as there are
// slots. (Windowing; "LLM in a flash", section 3.1: there those of the last k tokens, here as many tokens
// as fit.) A function of what it was told, so a run repeated keeps the same neurons.
// Threads: one at a time.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace venturi {

class NeuronWindow {
 public:
  static constexpr int32_t kNone = -1;

  NeuronWindow(int64_t n_neurons, int64_t n_slots);
  static uint64_t table_bytes(int64_t n_neurons, int64_t n_slots);

  // The neurons of a step, least recent first, each once. Those that are held stay; of the others the most
  // recent get the slots that are free or held by neurons that are not among them, whose time is longest
  // ago. What is given a slot is not held before fill().
  void use(std::span<const int32_t> neurons);

  // Its slot, held or to be filled; kNone if it has none.
  int32_t slot_of(int32_t neuron) const { return nodes_[static_cast<size_t>(neuron)].slot; }
  bool holds(int32_t neuron) const { return nodes_[static_cast<size_t>(neuron)].filled; }
  void fill(int32_t neuron) { nodes_[static_cast<size_t>(neuron)].filled = true; }
  // Takes its slot from a neuron, filled or not.
  void drop(int32_t neuron);
  int64_t n_slots() const { return n_slots_; }

 private:
  struct Node {
    int32_t slot = kNone, before = kNone, after = kNone;
    bool filled = false;
  };
  void unlink(int32_t neuron);
  void append(int32_t neuron);

  const int64_t n_slots_;
  std::vector<Node> nodes_;
  std::vector<int32_t> free_;
  int32_t oldest_ = kNone, newest_ = kNone;
};

}  // namespace venturi
