// What a feed-forward with a ReLU reads for one neuron: its bundle.
//
// In y = down (relu(gate x) * (up x)) a neuron j with (gate x)_j <= 0 contributes exactly nothing: only
// those above need their row of up and their column of down. The gate is computed whole and so says
// exactly which. Without a gate, y = down relu(up x), up plays its part, and a bundle is the column
// alone. (Bundles and what to do with them: Alizadeh et al., "LLM in a flash", 2024, sections 3.1-3.2;
// there the active neurons are guessed, here they are known.)
//
// Layout of a bundle: [row j of up, as in the file, padded to 64 bytes][column j of down, as
// kernels/columns/columns.h has it], padded to 512 bytes, the smallest block of a disk. A column lies inside the
// quantisation blocks of down: its codes are moved as they are and the blocks' scales stay in memory, so
// the values are those of the file. Units: bytes.
#pragma once

#include <cstdint>
#include <vector>

#include "base/result.h"
#include "kernels/columns/columns.h"
#include "memory/weights.h"

namespace venturi {

class NeuronStore;

// A feed-forward whose activation is zero up to zero. gate: null where there is none.
struct NeuronLayer {
  const Weight *gate = nullptr, *up = nullptr, *down = nullptr;
};

struct BundleLayout {
  ColumnKernel kernel = ColumnKernel::kNone;
  uint64_t n_neurons = 0;
  uint64_t column_offset = 0;  // in a bundle; 0: there is no row
  uint64_t bytes = 0;          // of a bundle as stored, whole disk blocks
  uint64_t scale_bytes = 0;    // of all blocks of down
  bool operator==(const BundleLayout&) const = default;
  uint64_t n_blocks() const { return (n_neurons + kColumnBlock - 1) / kColumnBlock; }
};

inline constexpr uint64_t kBundleAlign = 512;

// Code::kUnsupported, naming the weight and its type, where there are no bundles of it.
Result<BundleLayout> bundle_layout(const ModelFile& file, const NeuronLayer& layer);

// A feed-forward that reads its neurons from bundles; Weight::bundles of its up and its down.
struct BundledLayer {
  NeuronLayer weights;
  BundleLayout layout;
  int index = 0;                 // among those of the model
  NeuronStore* store = nullptr;  // null until it is loaded
};

}  // namespace venturi
