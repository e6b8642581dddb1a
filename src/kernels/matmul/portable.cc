#include "kernels/matmul/matmul.h"
#include "simd/portable.h"

namespace venturi::portable {
namespace venturi_isa = venturi::portable;
namespace {

#include "kernels/matmul/float_tile.h"
#include "kernels/matmul/generic.h"

}  // namespace

extern const MatmulTable matmul;
const MatmulTable matmul = make_table();

}  // namespace venturi::portable
