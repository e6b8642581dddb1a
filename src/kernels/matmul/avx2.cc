#if defined(__x86_64__)
#include "kernels/matmul/matmul.h"
#include "simd/avx2.h"

namespace venturi::avx2 {
namespace venturi_isa = venturi::avx2;

#include "kernels/matmul/generic.h"

extern const MatmulTable matmul;
const MatmulTable matmul = make_table();

}  // namespace venturi::avx2
#endif
