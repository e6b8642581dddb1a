#if defined(__aarch64__)
#include "kernels/peak/peak.h"
#include "simd/neon.h"

namespace venturi::neon {
namespace {

#include "kernels/peak/generic.h"

}  // namespace

extern const PeakKernels peak;
const PeakKernels peak = make_peak();

}  // namespace venturi::neon
#endif
