// Row kernels: norms, activations, sums. x, y [n] f32; a row is computed by one thread.
//
// Reduction tree of every sum over a row: 16 lanes, lane j takes elements j, j + 16, … in order;
// then lanes i and i + 8 are added, i + 4, i + 2, i + 1. It depends on n only, not on the
// instruction set.
#pragma once

#include <cstdint>

#include "simd/isa.h"

namespace venturi {

struct RowKernels {
  // y = x / sqrt(mean(x^2) + epsilon) * weight
  void (*rms_norm)(const float* x, const float* weight, float epsilon, int64_t n, float* y);
  // y = (x - mean) / sqrt(var + epsilon) * weight + bias; bias may be null. Two passes.
  void (*layer_norm)(const float* x, const float* weight, const float* bias, float epsilon, int64_t n, float* y);
  void (*add)(const float* a, const float* b, int64_t n, float* y);
  void (*scale)(float* x, float factor, int64_t n);
  // y += factor * x
  void (*add_scaled)(const float* x, float factor, int64_t n, float* y);
  // y = silu(gate) * up, silu(x) = x / (1 + e^-x); up may be null (1)
  void (*silu_mul)(const float* gate, const float* up, int64_t n, float* y);
  // y = gelu(gate) * up with the tanh form of gelu; likewise
  void (*gelu_mul)(const float* gate, const float* up, int64_t n, float* y);
  // x = cap * tanh(x / cap)
  void (*soft_cap)(float* x, float cap, int64_t n);
  // Pairs (x[i], x[i + half]) rotated by the angles with the given cosines and sines, half of each.
  void (*rotate_halves)(float* x, const float* cosine, const float* sine, int64_t half);
  // Softmax in place, three passes over the row: maximum, exponential and sum, scale.
  void (*softmax_three_pass)(float* x, int64_t n);
  // The same in two passes over x, mantissa and exponent of each exponential kept apart so that no
  // maximum is needed first: Dukhan and Ablavatski, "The Two-Pass Softmax Algorithm", 2020.
  void (*softmax_two_pass)(float* x, int64_t n);
  // One step of a linear recurrence: state = decay * state + x * b, elementwise; returns state . c.
  float (*scan_step)(float* state, float decay, float x, const float* b, const float* c, int64_t n);
};

const RowKernels& row_kernels(Isa isa);
inline const RowKernels& row_kernels() { return row_kernels(chosen_isa()); }

}  // namespace venturi
