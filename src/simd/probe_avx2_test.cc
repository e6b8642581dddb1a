#if defined(__x86_64__)
#include "simd/avx2.h"
#include "simd/probe_test.h"

namespace venturi::avx2 {
namespace {

#include "simd/math.h"
#include "simd/probe_generic_test.h"

}  // namespace

extern const SimdProbe probe;
const SimdProbe probe = make_probe();

}  // namespace venturi::avx2
#endif
