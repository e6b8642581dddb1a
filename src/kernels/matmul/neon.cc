#if defined(__aarch64__)
#include "kernels/matmul/matmul.h"
#include "simd/neon.h"

namespace venturi::neon {
namespace venturi_isa = venturi::neon;

#include "kernels/matmul/generic.h"

extern const MatmulTable matmul;
const MatmulTable matmul = make_table();

}  // namespace venturi::neon
#endif
