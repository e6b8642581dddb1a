#if defined(__x86_64__)
#include "kernels/rows/rows.h"
#include "simd/avx512.h"

namespace venturi::avx512 {
namespace venturi_isa = venturi::avx512;
namespace {

#include "simd/math.h"
#include "kernels/rows/generic.h"

}  // namespace

extern const RowKernels rows;
const RowKernels rows = make_rows();

}  // namespace venturi::avx512
#endif
