#if defined(__x86_64__)
#include "kernels/attention/attention.h"
#include "kernels/matmul/matmul.h"
#include "simd/avx512.h"

namespace venturi::avx512 {
namespace venturi_isa = venturi::avx512;
namespace {

#include "simd/math.h"
#include "kernels/matmul/float_tile.h"
#include "kernels/attention/generic.h"

}  // namespace

extern const AttentionKernels attention;
const AttentionKernels attention = make_attention();

}  // namespace venturi::avx512
#endif
