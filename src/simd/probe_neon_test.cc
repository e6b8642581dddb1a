#if defined(__aarch64__)
#include "simd/neon.h"
#include "simd/probe_test.h"

namespace venturi::neon {
namespace {

#include "simd/math.h"
#include "simd/probe_generic_test.h"

}  // namespace

extern const SimdProbe probe;
const SimdProbe probe = make_probe();

}  // namespace venturi::neon
#endif
