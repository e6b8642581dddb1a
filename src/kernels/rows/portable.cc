#include "kernels/rows/rows.h"
#include "simd/portable.h"

namespace venturi::portable {
namespace venturi_isa = venturi::portable;
namespace {

#include "simd/math.h"
#include "kernels/rows/generic.h"

}  // namespace

extern const RowKernels rows;
const RowKernels rows = make_rows();

}  // namespace venturi::portable
