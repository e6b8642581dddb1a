// A feed-forward whose neurons come in bundles (memory/neurons/bundle.h): only those that are active are
// read and computed with, in the order and to the bits of the dense products.
#pragma once

#include "ops/rows.h"

namespace venturi {

// Whether the activation is zero up to zero, so that a neuron below contributes nothing.
bool zero_below_zero(Activation activation);

struct NeuronBiases {
  const VectorWeight *gate = nullptr, *up = nullptr;
};

// down (act(gate x) * (up x)), or down act(up x) without a gate: x [rows, d_model] -> [rows, n_out]. Of weights whose
// down has bundles.
Act sparse_feed_forward(Context& context, const NeuronLayer& weights, const NeuronBiases& biases, Activation activation,
                        Act x);

}  // namespace venturi
