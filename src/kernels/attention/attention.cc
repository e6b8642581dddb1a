#include "kernels/attention/attention.h"

namespace venturi {

#if defined(__x86_64__)
namespace avx2 { extern const AttentionKernels attention; }
namespace avx512 { extern const AttentionKernels attention; }
#elif defined(__aarch64__)
namespace neon { extern const AttentionKernels attention; }
#endif
namespace portable { extern const AttentionKernels attention; }

const AttentionKernels& attention_kernels(Isa isa) {
  switch (isa) {
#if defined(__x86_64__)
    case Isa::kAvx2: return avx2::attention;
    case Isa::kAvx512: return avx512::attention;
#elif defined(__aarch64__)
    case Isa::kNeon: return neon::attention;
#endif
    default: return portable::attention;
  }
}

}  // namespace venturi
