// In which order operators run, so that they hold as little at one time as they can.
//
// An operator reads blocks, makes or changes blocks, and has scratch of its own while it runs; a block
// lives from the operator that makes it to the last one that touches it. Orders that give the same bits
// are those of a graph: an operator follows those that wrote what it touches, and those that read what it
// changes. The least peak over these orders is the order half of COSMA's integer program (arXiv
// 2311.18246), and with place_exact() on the order found, both halves: no order and placement together are
// below the bound found here.
//
// What is live between two operators depends on the set of those that have run, not on their order. So the
// least peak is a shortest path over these sets, with a maximum in place of a sum: sets are taken up in
// order of the peak that they were reached with (the states of the dynamic program of Ahn et al.,
// "Ordering chaos", 2020). Two things keep them few. An operator that every other precedes or follows
// cuts the graph into parts that are searched alone: in a decoder, the sums into the residual stream. And
// an operator that needs no more than was spent, and leaves no more than it found, goes first.
// Pure functions; units: bytes.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "ops/context.h"
#include "ops/placement.h"

namespace venturi {

struct Operator {
  std::string_view name;
  std::vector<int32_t> before;        // operators that have to have run
  std::vector<int32_t> makes, takes;  // blocks; what is changed in place is taken; what is taken was made before
  uint64_t scratch = 0;
};

struct OperatorGraph {
  std::vector<uint64_t> blocks;      // bytes of each
  std::vector<Operator> operators;   // in an order that is allowed
};

// Of the ops of a pass in shape mode; those of a workspace or group are one.
OperatorGraph operators_of(const Context& shape);

// Every operator once, each after those before it.
bool is_order(const OperatorGraph& graph, std::span<const int32_t> order);
// Lifetimes in that order, scratch too; times count operators.
std::vector<Block> blocks_in_order(const OperatorGraph& graph, std::span<const int32_t> order);

std::vector<int32_t> program_order(const OperatorGraph& graph);
// Of what may run, always what leaves the least; of those, what needs the least.
std::vector<int32_t> greedy_order(const OperatorGraph& graph);

struct ExactOrder {
  std::vector<int32_t> order;  // never worse than the program's; the program's where that is as good
  uint64_t peak = 0;           // live at one time
  uint64_t bound = 0;          // no order has a lower peak
  bool proved = false;         // peak == bound
  int64_t states = 0;          // of the search
};
// Past `max_states` of a part, or in a part of more than 64 operators, the best of program and greedy stays, unproved.
ExactOrder find_order(const OperatorGraph& graph, int64_t max_states = 1 << 18);

}  // namespace venturi
