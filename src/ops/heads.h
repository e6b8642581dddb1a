// Products with a matrix per head, for attention that works in a latent space.
//
// x is [rows, heads * x_stride] and y [rows, heads * y_stride], where heads is the weight's number
// of planes; head h's input starts at column h * x_stride + x_begin, its output likewise.
#pragma once

#include "ops/context.h"

namespace venturi {

// y_h = x_h W_h^T: W_h is [n_out, n_in], plane h.
void linear_heads(Context& context, const Weight& weight, const Act& x, int64_t x_begin, Act& y,
                  int64_t y_begin);

// y_h = x_h W_h: from n_out values to n_in. W is decoded to f32 row by row; a sum runs over the
// rows of W in ascending order.
void linear_heads_transposed(Context& context, const Weight& weight, const Act& x, int64_t x_begin,
                             Act& y, int64_t y_begin);

// n columns of each of `heads` heads.
void copy_heads(Context& context, int64_t heads, int64_t n, const Act& x, int64_t x_begin, Act& y,
                int64_t y_begin);

}  // namespace venturi
