#include "kernels/peak/peak.h"

namespace venturi {

#if defined(__x86_64__)
namespace avx2 { extern const PeakKernels peak; }
namespace avx512 { extern const PeakKernels peak; }
#elif defined(__aarch64__)
namespace neon { extern const PeakKernels peak; }
#endif
namespace portable { extern const PeakKernels peak; }

const PeakKernels& peak_kernels(Isa isa) {
  switch (isa) {
#if defined(__x86_64__)
    case Isa::kAvx2: return avx2::peak;
    case Isa::kAvx512: return avx512::peak;
#elif defined(__aarch64__)
    case Isa::kNeon: return neon::peak;
#endif
    default: return portable::peak;
  }
}

}  // namespace venturi
