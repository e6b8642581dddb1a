#include "memory/neurons/window.h"

#include <algorithm>
#include <cassert>

namespace venturi {

NeuronWindow::NeuronWindow(int64_t n_neurons, int64_t n_slots)
    : n_slots_(std::min(n_neurons, n_slots)), nodes_(static_cast<size_t>(n_neurons)) {
  for (int64_t slot = n_slots_ - 1; slot >= 0; --slot) free_.push_back(static_cast<int32_t>(slot));
}

uint64_t NeuronWindow::table_bytes(int64_t n_neurons, int64_t n_slots) {
  return static_cast<uint64_t>(n_neurons) * sizeof(Node) + static_cast<uint64_t>(std::min(n_neurons, n_slots)) * sizeof(int32_t);
}

void NeuronWindow::use(std::span<const int32_t> neurons) {
  int64_t held = 0;
  for (const int32_t n : neurons) {
    if (slot_of(n) == kNone) continue;
    unlink(n);
    append(n);
    ++held;
  }
  // Newcomers get in among those that were held, in order, so everything behind the first of this step's is
  // this step's, and what lies before it may leave.
  int64_t room = n_slots_ - held, skip = static_cast<int64_t>(neurons.size()) - held - room;
  for (const int32_t n : neurons) {
    if (slot_of(n) != kNone) {
      unlink(n);
      append(n);
      continue;
    }
    if (skip-- > 0) continue;
    if (free_.empty()) drop(oldest_);
    nodes_[static_cast<size_t>(n)].slot = free_.back();
    free_.pop_back();
    append(n);
  }
}

void NeuronWindow::drop(int32_t neuron) {
  assert(neuron != kNone && slot_of(neuron) != kNone);
  unlink(neuron);
  Node& node = nodes_[static_cast<size_t>(neuron)];
  free_.push_back(node.slot);
  node = {};
}

void NeuronWindow::unlink(int32_t neuron) {
  const Node& node = nodes_[static_cast<size_t>(neuron)];
  (node.before == kNone ? oldest_ : nodes_[static_cast<size_t>(node.before)].after) = node.after;
  (node.after == kNone ? newest_ : nodes_[static_cast<size_t>(node.after)].before) = node.before;
}

void NeuronWindow::append(int32_t neuron) {
  Node& node = nodes_[static_cast<size_t>(neuron)];
  node.before = newest_;
  node.after = kNone;
  (newest_ == kNone ? oldest_ : nodes_[static_cast<size_t>(newest_)].after) = neuron;
  newest_ = neuron;
}

}  // namespace venturi
