#if defined(__x86_64__)
#include "kernels/matmul/matmul.h"
#include "simd/avx512.h"

namespace venturi::avx512 {
namespace venturi_isa = venturi::avx512;
namespace {

#include "kernels/matmul/float_tile.h"
#include "kernels/matmul/generic.h"

}  // namespace

extern const MatmulTable matmul;
const MatmulTable matmul = make_table();

}  // namespace venturi::avx512
#endif
