// The recurrent ops of state-space models: both walk a span's tokens one by one and leave their
// memory in a recurrent slot, so how a prompt is cut into steps changes no bit.
#pragma once

#include "ops/context.h"
#include "ops/step.h"

namespace venturi {

// Depthwise convolution over time, bias, then SiLU:
//   y[t, c] = silu(bias[c] + sum over j of kernel[c, j] x[t - (taps - 1) + j, c])
// The last tap is the present; taps are summed in ascending order. The slot holds, from
// `state_begin` on, the taps - 1 rows before the next token, oldest first. x [rows, channels] is
// overwritten by y.
struct ConvParams {
  int slot = 0;
  int64_t state_begin = 0;
  int64_t taps = 0;
  const VectorWeight* kernel = nullptr;  // [channels, taps]
  const VectorWeight* bias = nullptr;    // [channels] or null
};
void causal_conv_silu(Context& context, const Step& step, const ConvParams& params, Act& x);

// Structured state-space duality as its recurrence (Dao and Gu, "Transformers are SSMs", 2024):
//   dt = softplus(dt + dt_bias);  S = exp(dt a) S + dt x B^T;  y = S C + skip x
// per head, S [head_dim, d_state]; heads share B and C by group. The slot holds S of all heads from
// `state_begin` on.
struct ScanParams {
  int slot = 0;
  int64_t state_begin = 0;
  int64_t n_heads = 0, head_dim = 0, d_state = 0, n_groups = 0;
  const VectorWeight *a = nullptr, *dt_bias = nullptr, *skip = nullptr;  // [n_heads]
};
// xbc [rows, n_heads * head_dim + 2 * n_groups * d_state] holds x, B, C; dt [rows, n_heads].
//   -> [rows, n_heads * head_dim]
Act ssd_scan(Context& context, const Step& step, const ScanParams& params, const Act& xbc,
             const Act& dt);

}  // namespace venturi
