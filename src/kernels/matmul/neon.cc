#if defined(__aarch64__)
#include "kernels/matmul/matmul.h"
#include "simd/neon.h"

namespace venturi::neon {
namespace venturi_isa = venturi::neon;
namespace {

#include "kernels/matmul/float_tile.h"
#include "kernels/matmul/generic.h"

}  // namespace

extern const MatmulTable matmul;
const MatmulTable matmul = make_table();

}  // namespace venturi::neon
#endif
