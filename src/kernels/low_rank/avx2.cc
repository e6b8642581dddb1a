#if defined(__x86_64__)
#include "kernels/low_rank/low_rank.h"
#include "simd/avx2.h"

namespace venturi::avx2 {
namespace venturi_isa = venturi::avx2;
namespace {

#include "kernels/matmul/float_tile.h"
#include "kernels/low_rank/generic.h"

}  // namespace

extern const LowRankTable low_rank;
const LowRankTable low_rank = make_low_rank();

}  // namespace venturi::avx2
#endif
