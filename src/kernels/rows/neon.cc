#if defined(__aarch64__)
#include "kernels/rows/rows.h"
#include "simd/neon.h"

namespace venturi::neon {
namespace venturi_isa = venturi::neon;
namespace {

#include "simd/math.h"
#include "kernels/rows/generic.h"

}  // namespace

extern const RowKernels rows;
const RowKernels rows = make_rows();

}  // namespace venturi::neon
#endif
