// y = x W^T, and embedding look-up.
#pragma once

#include <span>
#include <vector>

#include "ops/context.h"

namespace venturi {

// Several weights that share an input are one parallel region and one rounding of it.
// x [rows, n_in] -> a y [rows, n_out] per weight.
std::vector<Act> linear(Context& context, std::span<const Weight* const> weights, const Act& x);
Act linear(Context& context, const Weight& weight, const Act& x);

// The same with plane `plane` of a stacked weight (an expert), used in the way that `use` says.
Act linear_plane(Context& context, const Weight& weight, int64_t plane, const Act& x, Use use);
std::vector<Act> linear_planes(Context& context, std::span<const Weight* const> weights, int64_t plane, const Act& x,
                               Use use);

// y[i] = W[ids[i]] in f32, times `scale`.
Act embed(Context& context, const Weight& table, std::span<const int32_t> ids, float scale = 1.0f);

}  // namespace venturi
