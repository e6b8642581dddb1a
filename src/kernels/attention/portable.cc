#include "kernels/attention/attention.h"
#include "kernels/matmul/matmul.h"
#include "simd/portable.h"

namespace venturi::portable {
namespace venturi_isa = venturi::portable;
namespace {

#include "simd/math.h"
#include "kernels/matmul/float_tile.h"
#include "kernels/attention/generic.h"

}  // namespace

extern const AttentionKernels attention;
const AttentionKernels attention = make_attention();

}  // namespace venturi::portable
