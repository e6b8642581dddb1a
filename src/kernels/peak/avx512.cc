#if defined(__x86_64__)
#include "kernels/peak/peak.h"
#include "simd/avx512.h"

namespace venturi::avx512 {
namespace {

#include "kernels/peak/generic.h"

}  // namespace

extern const PeakKernels peak;
const PeakKernels peak = make_peak();

}  // namespace venturi::avx512
#endif
