// Low-rank adapters in a step: y += scale B (A x) for the rows whose span has one.
//
//   u[m, j] = sum over k of A[j, k] x[m, k]      in slices of kAdapterSlice columns, whose sums (each a
//                                                chain of fma in ascending k) are added in their order
//   y[m, n] += sum over j of B[n, j] (scale u[m, j])      low_rank.h
//
// So a row's result depends on its input and its adapter alone: rows of one step are grouped by adapter
// as they come, and what the groups are changes no bit. Rows without an adapter are not touched.
// Punica (Chen et al. 2023, arXiv 2310.18547) and S-LoRA (Sheng et al. 2023, arXiv 2311.03285) batch
// adapters in this way on GPUs.
#pragma once

#include <span>
#include <vector>

#include "memory/adapter.h"
#include "ops/context.h"
#include "ops/step.h"

namespace venturi {

// Columns of x whose products are one chain: two threads share a row of 2048.
constexpr int64_t kAdapterSlice = 1024;

// Tells the context which rows have which adapter, before a forward pass.
void set_row_adapters(Context& context, const Step& step);

// Adds to outputs[i] = weights[i] x what the rows' adapters say.
void add_adapters(Context& context, std::span<const Weight* const> weights, const Act& x, std::vector<Act>& outputs);

}  // namespace venturi
