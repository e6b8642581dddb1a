#if defined(__x86_64__)
#include "kernels/matmul/matmul.h"
#include "simd/avx512.h"

namespace venturi::avx512 {
namespace venturi_isa = venturi::avx512;

#include "kernels/matmul/generic.h"

extern const MatmulTable matmul;
const MatmulTable matmul = make_table();

}  // namespace venturi::avx512
#endif
