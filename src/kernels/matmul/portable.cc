#include "kernels/matmul/matmul.h"
#include "simd/portable.h"

namespace venturi::portable {
namespace venturi_isa = venturi::portable;

#include "kernels/matmul/generic.h"

extern const MatmulTable matmul;
const MatmulTable matmul = make_table();

}  // namespace venturi::portable
