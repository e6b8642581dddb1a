// Ops that work row by row: norms, activations, sums.
#pragma once

#include "ops/context.h"

namespace venturi {

Act rms_norm(Context& context, const Act& x, const VectorWeight& weight, float epsilon);
// Each of `heads` consecutive parts of a row normed on its own, in place. The weight is that of one
// part, for all, or as long as the row.
void rms_norm_heads(Context& context, Act& x, int64_t heads, const VectorWeight& weight, float epsilon);
Act layer_norm(Context& context, const Act& x, const VectorWeight& weight, const VectorWeight* bias, float epsilon);
void add_in_place(Context& context, Act& x, const Act& y);           // x += y
void add_bias(Context& context, Act& x, const VectorWeight* bias);   // null: nothing
void scale_in_place(Context& context, Act& x, float factor);
void soft_cap_in_place(Context& context, Act& x, float cap);

enum class Activation { kSilu, kGelu, kGeluErf, kRelu, kRelu2 };  // kRelu2: relu(x)^2
// act(gate) * up, into gate; up may be null.
void gated_in_place(Context& context, Activation activation, Act& gate, const Act* up);

// x[r] *= sigmoid(gate[r]), gate [rows, 1].
void gate_rows_in_place(Context& context, Act& x, const Act& gate);

// Rows `rows` of x, gathered.
Act take_rows(Context& context, const Act& x, std::span<const int64_t> rows);
// The rows whose logits are wanted, of all rows of a step; ops see no others from then on.
Act take_output_rows(Context& context, const Act& x, std::span<const int64_t> rows);
// Columns [begin, begin + n) of x.
Act take_columns(Context& context, const Act& x, int64_t begin, int64_t n);

}  // namespace venturi
