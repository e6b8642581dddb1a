#if defined(__aarch64__)
#include <cstring>

#include "kernels/columns/columns.h"
#include "simd/neon.h"

namespace venturi::neon {
namespace venturi_isa = venturi::neon;
namespace {

#include "kernels/matmul/float_tile.h"
#include "kernels/columns/generic.h"

}  // namespace

extern const ColumnsTable columns;
const ColumnsTable columns = make_table();

}  // namespace venturi::neon
#endif
