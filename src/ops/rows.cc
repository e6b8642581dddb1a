#include "ops/rows.h"

#include <cmath>
#include <cstring>

#include "kernels/rows/rows.h"

namespace venturi {

namespace {

// Rows a thread takes at once: a region costs about a microsecond, a row of 4096 about as much.
constexpr int64_t kGrain = 4;

template <typename Body>
void each_row(Context& context, int64_t rows, Body body) {
  context.pool().parallel_for(rows, kGrain, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) body(r);
  });
}

}  // namespace

Act rms_norm(Context& context, const Act& x, const VectorWeight& weight, float epsilon) {
  Act y = context.allocate(x.rows(), x.cols());
  const Context::Scope scope(context, {.op = "norm"}, {&x}, {&y});
  if (scope.computes())
    each_row(context, x.rows(), [&](int64_t r) { row_kernels().rms_norm(x.row(r), weight.data(), epsilon, x.cols(), y.row(r)); });
  return y;
}

void rms_norm_heads(Context& context, Act& x, int64_t heads, const VectorWeight& weight, float epsilon) {
  const Context::Scope scope(context, {.op = "norm"}, {}, {&x});
  if (!scope.computes()) return;
  const int64_t n = x.cols() / heads;
  const int64_t step = weight.n == x.cols() ? n : 0;
  each_row(context, x.rows(), [&](int64_t r) {
    for (int64_t h = 0; h < heads; ++h)
      row_kernels().rms_norm(x.row(r) + h * n, weight.data() + h * step, epsilon, n, x.row(r) + h * n);
  });
}

Act layer_norm(Context& context, const Act& x, const VectorWeight& weight, const VectorWeight* bias, float epsilon) {
  Act y = context.allocate(x.rows(), x.cols());
  const Context::Scope scope(context, {.op = "norm"}, {&x}, {&y});
  if (scope.computes())
    each_row(context, x.rows(), [&](int64_t r) {
      row_kernels().layer_norm(x.row(r), weight.data(), bias ? bias->data() : nullptr, epsilon, x.cols(), y.row(r));
    });
  return y;
}

void add_in_place(Context& context, Act& x, const Act& y) {
  const Context::Scope scope(context, {.op = "add"}, {&y}, {&x});
  if (scope.computes()) each_row(context, x.rows(), [&](int64_t r) { row_kernels().add(x.row(r), y.row(r), x.cols(), x.row(r)); });
}

void add_bias(Context& context, Act& x, const VectorWeight* bias) {
  if (!bias) return;
  const Context::Scope scope(context, {.op = "add"}, {}, {&x});
  if (scope.computes()) each_row(context, x.rows(), [&](int64_t r) { row_kernels().add(x.row(r), bias->data(), x.cols(), x.row(r)); });
}

void scale_in_place(Context& context, Act& x, float factor) {
  const Context::Scope scope(context, {.op = "scale"}, {}, {&x});
  if (scope.computes()) each_row(context, x.rows(), [&](int64_t r) { row_kernels().scale(x.row(r), factor, x.cols()); });
}

void soft_cap_in_place(Context& context, Act& x, float cap) {
  const Context::Scope scope(context, {.op = "soft_cap"}, {}, {&x});
  if (scope.computes()) each_row(context, x.rows(), [&](int64_t r) { row_kernels().soft_cap(x.row(r), cap, x.cols()); });
}

void gated_in_place(Context& context, Activation activation, Act& gate, const Act* up) {
  const Context::Scope scope(context, {.op = "gate"}, {up}, {&gate});
  if (!scope.computes()) return;
  each_row(context, gate.rows(), [&](int64_t r) {
    float* g = gate.row(r);
    const float* u = up ? up->row(r) : nullptr;
    const int64_t n = gate.cols();
    switch (activation) {
      case Activation::kSilu: row_kernels().silu_mul(g, u, n, g); break;
      case Activation::kGelu: row_kernels().gelu_mul(g, u, n, g); break;
      case Activation::kGeluErf:
        for (int64_t i = 0; i < n; ++i) g[i] = 0.5f * g[i] * (1.0f + std::erf(g[i] * 0.70710678f)) * (u ? u[i] : 1.0f);
        break;
      case Activation::kRelu:
        for (int64_t i = 0; i < n; ++i) g[i] = (g[i] > 0 ? g[i] : 0.0f) * (u ? u[i] : 1.0f);
        break;
      case Activation::kRelu2:
        for (int64_t i = 0; i < n; ++i) g[i] = (g[i] > 0 ? g[i] * g[i] : 0.0f) * (u ? u[i] : 1.0f);
        break;
    }
  });
}

void gate_rows_in_place(Context& context, Act& x, const Act& gate) {
  const Context::Scope scope(context, {.op = "gate"}, {&gate}, {&x});
  if (scope.computes())
    each_row(context, x.rows(), [&](int64_t r) {
      row_kernels().scale(x.row(r), 1.0f / (1.0f + std::exp(-gate.row(r)[0])), x.cols());
    });
}

Act take_columns(Context& context, const Act& x, int64_t begin, int64_t n) {
  Act y = context.allocate(x.rows(), n);
  const Context::Scope scope(context, {.op = "take_columns"}, {&x}, {&y});
  if (scope.computes())
    each_row(context, x.rows(), [&](int64_t r) { std::memcpy(y.row(r), x.row(r) + begin, n * sizeof(float)); });
  return y;
}

Act take_rows(Context& context, const Act& x, std::span<const int64_t> rows) {
  Act y = context.allocate(static_cast<int64_t>(rows.size()), x.cols());
  const Context::Scope scope(context, {.op = "take_rows"}, {&x}, {&y});
  if (scope.computes())
    for (size_t i = 0; i < rows.size(); ++i) std::memcpy(y.row(i), x.row(rows[i]), x.cols() * sizeof(float));
  return y;
}

Act take_output_rows(Context& context, const Act& x, std::span<const int64_t> rows) {
  Act y = take_rows(context, x, rows);
  context.keep_rows(rows);
  return y;
}

}  // namespace venturi
