#if defined(__x86_64__)
#include <cstring>

#include "kernels/columns/columns.h"
#include "simd/avx512.h"

namespace venturi::avx512 {
namespace venturi_isa = venturi::avx512;
namespace {

#include "kernels/matmul/float_tile.h"
#include "kernels/columns/generic.h"

}  // namespace

extern const ColumnsTable columns;
const ColumnsTable columns = make_table();

}  // namespace venturi::avx512
#endif
