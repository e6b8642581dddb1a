#if defined(__x86_64__)
#include <cstring>

#include "kernels/columns/columns.h"
#include "simd/avx2.h"

namespace venturi::avx2 {
namespace venturi_isa = venturi::avx2;
namespace {

#include "kernels/matmul/float_tile.h"
#include "kernels/columns/generic.h"

}  // namespace

extern const ColumnsTable columns;
const ColumnsTable columns = make_table();

}  // namespace venturi::avx2
#endif
