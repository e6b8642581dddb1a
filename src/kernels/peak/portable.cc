#include "kernels/peak/peak.h"
#include "simd/portable.h"

namespace venturi::portable {
namespace {

#include "kernels/peak/generic.h"

}  // namespace

extern const PeakKernels peak;
const PeakKernels peak = make_peak();

}  // namespace venturi::portable
