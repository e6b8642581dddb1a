// Attention over sequences whose old pages are in a file: split by split as they arrive, each
// merged into what was found so far, in the order that attention has anyway (decision 004). Same
// bits, and no more memory than the cells of the ring and one running result per query.
#pragma once

#include <span>

#include "ops/attend_run.h"

namespace venturi {

// Scratch that a step may need; 0 where no state can spill.
int64_t spill_scratch_floats(const Step& step, const AttendParams& p, int64_t rows_per_tile,
                             int threads);

// `tiles`: those of whole spans, in order. task_scratch: a row for each thread. A page that does
// not come fails the context.
void attend_spilled(Context& context, const AttendRun& run, std::span<const Tile> tiles,
                    Act& task_scratch, float* scratch);

}  // namespace venturi
