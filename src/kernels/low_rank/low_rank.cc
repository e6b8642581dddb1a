#include "kernels/low_rank/low_rank.h"

namespace venturi {

#if defined(__x86_64__)
namespace avx2 { extern const LowRankTable low_rank; }
namespace avx512 { extern const LowRankTable low_rank; }
#elif defined(__aarch64__)
namespace neon { extern const LowRankTable low_rank; }
#endif
namespace portable { extern const LowRankTable low_rank; }

const LowRankTable& low_rank_table(Isa isa) {
  switch (isa) {
#if defined(__x86_64__)
    case Isa::kAvx2: return avx2::low_rank;
    case Isa::kAvx512: return avx512::low_rank;
#elif defined(__aarch64__)
    case Isa::kNeon: return neon::low_rank;
#endif
    default: return portable::low_rank;
  }
}

}  // namespace venturi
