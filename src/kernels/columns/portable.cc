#include <cstring>

#include "kernels/columns/columns.h"
#include "simd/portable.h"

namespace venturi::portable {
namespace venturi_isa = venturi::portable;
namespace {

#include "kernels/matmul/float_tile.h"
#include "kernels/columns/generic.h"

}  // namespace

extern const ColumnsTable columns;
const ColumnsTable columns = make_table();

}  // namespace venturi::portable
