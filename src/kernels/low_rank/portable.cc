#include "kernels/low_rank/low_rank.h"
#include "simd/portable.h"

namespace venturi::portable {
namespace venturi_isa = venturi::portable;
namespace {

#include "kernels/matmul/float_tile.h"
#include "kernels/low_rank/generic.h"

}  // namespace

extern const LowRankTable low_rank;
const LowRankTable low_rank = make_low_rank();

}  // namespace venturi::portable
