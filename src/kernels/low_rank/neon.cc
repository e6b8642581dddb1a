#if defined(__aarch64__)
#include "kernels/low_rank/low_rank.h"
#include "simd/neon.h"

namespace venturi::neon {
namespace venturi_isa = venturi::neon;
namespace {

#include "kernels/matmul/float_tile.h"
#include "kernels/low_rank/generic.h"

}  // namespace

extern const LowRankTable low_rank;
const LowRankTable low_rank = make_low_rank();

}  // namespace venturi::neon
#endif
