#if defined(__x86_64__)
#include "kernels/matmul/matmul.h"
#include "simd/avx2.h"

namespace venturi::avx2 {
namespace venturi_isa = venturi::avx2;
namespace {

#include "kernels/matmul/float_tile.h"
#include "kernels/matmul/generic.h"

}  // namespace

extern const MatmulTable matmul;
const MatmulTable matmul = make_table();

}  // namespace venturi::avx2
#endif
