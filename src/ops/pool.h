// A span's rows reduced to one vector: what encoders give.
#pragma once

#include "ops/context.h"
#include "ops/step.h"

namespace venturi {

enum class Pooling { kMean, kFirst, kLast };

// x [rows, cols] -> [step.spans.size(), cols]. Means are summed over rows in ascending order.
Act pool_spans(Context& context, const Step& step, Pooling pooling, const Act& x);

}  // namespace venturi
