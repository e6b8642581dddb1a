#include "ops/pool.h"

#include <cstring>

#include "kernels/rows/rows.h"

namespace venturi {

Act pool_spans(Context& context, const Step& step, Pooling pooling, const Act& x) {
  Act y = context.allocate(static_cast<int64_t>(step.spans.size()), x.cols());
  const Context::Scope scope(context, {.op = "pool"}, {&x}, {&y});
  if (!scope.computes()) return y;
  for (size_t i = 0; i < step.spans.size(); ++i) {
    const Span& span = step.spans[i];
    float* out = y.row(static_cast<int64_t>(i));
    const int64_t last = span.row_begin + span.n_rows - 1;
    std::memcpy(out, x.row(pooling == Pooling::kLast ? last : span.row_begin),
                x.cols() * sizeof(float));
    if (pooling != Pooling::kMean) continue;
    for (int64_t r = span.row_begin + 1; r <= last; ++r)
      row_kernels().add(out, x.row(r), x.cols(), out);
    row_kernels().scale(out, 1.0f / static_cast<float>(span.n_rows), x.cols());
  }
  return y;
}

}  // namespace venturi
