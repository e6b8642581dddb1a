#if defined(__aarch64__)
#include "kernels/attention/attention.h"
#include "kernels/matmul/matmul.h"
#include "simd/neon.h"

namespace venturi::neon {
namespace venturi_isa = venturi::neon;
namespace {

#include "simd/math.h"
#include "kernels/matmul/float_tile.h"
#include "kernels/attention/generic.h"

}  // namespace

extern const AttentionKernels attention;
const AttentionKernels attention = make_attention();

}  // namespace venturi::neon
#endif
