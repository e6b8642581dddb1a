#if defined(__x86_64__)
#include "kernels/matmul/matmul.h"
#include "simd/avx2.h"
#include "unified_maximum/unified_maximum.h"

namespace venturi::avx2 {
namespace venturi_isa = venturi::avx2;
namespace {

#include "simd/math.h"
#include "kernels/matmul/float_tile.h"
#include "kernels/attention/generic.h"
#include "unified_maximum/generic.h"

}  // namespace

extern const UnifiedSplit unified;
const UnifiedSplit unified = unified_split;

}  // namespace venturi::avx2
#endif
