#include "simd/probe_test.h"

namespace venturi {

#if defined(__x86_64__)
namespace avx2 {
extern const SimdProbe probe;
}
namespace avx512 {
extern const SimdProbe probe;
}
#elif defined(__aarch64__)
namespace neon {
extern const SimdProbe probe;
}
#endif
namespace portable {
extern const SimdProbe probe;
}

const SimdProbe* simd_probe(Isa isa) {
  switch (isa) {
    case Isa::kPortable:
      return &portable::probe;
#if defined(__x86_64__)
    case Isa::kAvx2:
      return &avx2::probe;
    case Isa::kAvx512:
      return &avx512::probe;
#elif defined(__aarch64__)
    case Isa::kNeon:
      return &neon::probe;
#endif
    default:
      return nullptr;
  }
}

}  // namespace venturi
