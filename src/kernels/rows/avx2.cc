#if defined(__x86_64__)
#include "kernels/rows/rows.h"
#include "simd/avx2.h"

namespace venturi::avx2 {
namespace venturi_isa = venturi::avx2;
namespace {

#include "simd/math.h"
#include "kernels/rows/generic.h"

}  // namespace

extern const RowKernels rows;
const RowKernels rows = make_rows();

}  // namespace venturi::avx2
#endif
