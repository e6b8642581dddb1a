#include "kernels/rows/rows.h"

namespace venturi {

#if defined(__x86_64__)
namespace avx2 { extern const RowKernels rows; }
namespace avx512 { extern const RowKernels rows; }
#elif defined(__aarch64__)
namespace neon { extern const RowKernels rows; }
#endif
namespace portable { extern const RowKernels rows; }

const RowKernels& row_kernels(Isa isa) {
  switch (isa) {
#if defined(__x86_64__)
    case Isa::kAvx2: return avx2::rows;
    case Isa::kAvx512: return avx512::rows;
#elif defined(__aarch64__)
    case Isa::kNeon: return neon::rows;
#endif
    default: return portable::rows;
  }
}

}  // namespace venturi
