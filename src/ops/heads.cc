#include "ops/heads.h"

#include <algorithm>
#include <cstring>

#include "base/checked.h"
#include "kernels/rows/rows.h"
#include "ops/linear.h"

namespace venturi {

namespace {

// Rows of x that share one decoding of a matrix: 64 outputs of 512 floats stay in the L2 cache.
constexpr int64_t kRowTile = 64;

}  // namespace

void linear_heads(Context& context, const Weight& weight, const Act& x, int64_t x_begin, Act& y,
                  int64_t y_begin) {
  const int64_t heads = weight.n_planes, x_stride = x.cols() / heads, y_stride = y.cols() / heads;
  const Context::Group group(context, {&x}, {&y});
  for (int64_t h = 0; h < heads; ++h) {
    Act in = context.allocate(x.rows(), weight.n_in);
    if (context.computes())
      for (int64_t r = 0; r < x.rows(); ++r)
        std::memcpy(in.row(r), x.row(r) + h * x_stride + x_begin, weight.n_in * sizeof(float));
    const Act out = linear_plane(context, weight, h, in, Use::kResident);
    if (context.computes())
      for (int64_t r = 0; r < x.rows(); ++r)
        std::memcpy(y.row(r) + h * y_stride + y_begin, out.row(r), weight.n_out * sizeof(float));
  }
}

void linear_heads_transposed(Context& context, const Weight& weight, const Act& x, int64_t x_begin,
                             Act& y, int64_t y_begin) {
  const int64_t heads = weight.n_planes, x_stride = x.cols() / heads, y_stride = y.cols() / heads;
  Act decoded = context.allocate(context.threads(), weight.n_in);
  context.note(weight, 0, Use::kResident);
  const Context::Scope scope(
      context, {.op = "linear_heads",
                .weight_bytes = weight.row_bytes * static_cast<uint64_t>(weight.n_out * heads),
                .f32_macs = static_cast<uint64_t>(x.rows() * heads * weight.n_out * weight.n_in)},
      {&x}, {&y});
  if (!scope.computes()) return;
  const int64_t tiles = ceil_div(x.rows(), kRowTile);
  context.pool().parallel_for(tiles * heads, 1, [&](int64_t begin, int64_t end, int worker) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t h = item % heads, row_begin = item / heads * kRowTile;
      const int64_t row_end = std::min(x.rows(), row_begin + kRowTile);
      for (int64_t r = row_begin; r < row_end; ++r)
        std::fill_n(y.row(r) + h * y_stride + y_begin, weight.n_in, 0.0f);
      for (int64_t k = 0; k < weight.n_out; ++k) {
        weight.decode_row(k, decoded.row(worker), h);
        for (int64_t r = row_begin; r < row_end; ++r)
          row_kernels().add_scaled(decoded.row(worker), x.row(r)[h * x_stride + x_begin + k],
                                   weight.n_in, y.row(r) + h * y_stride + y_begin);
      }
    }
  });
}

void copy_heads(Context& context, int64_t heads, int64_t n, const Act& x, int64_t x_begin, Act& y,
                int64_t y_begin) {
  const Context::Scope scope(context, {.op = "copy_heads"}, {&x}, {&y});
  if (!scope.computes()) return;
  const int64_t x_stride = x.cols() / heads, y_stride = y.cols() / heads;
  context.pool().parallel_for(x.rows(), 8, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r)
      for (int64_t h = 0; h < heads; ++h)
        std::memcpy(y.row(r) + h * y_stride + y_begin, x.row(r) + h * x_stride + x_begin,
                    n * sizeof(float));
  });
}

}  // namespace venturi
