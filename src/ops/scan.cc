#include "ops/scan.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/checked.h"
#include "kernels/rows/rows.h"

namespace venturi {

namespace {

constexpr int64_t kChannelBlock = 256;

// Channels [c0, c1) of a span. `ring` holds taps rows of them, the present last.
void conv_span(const Span& span, const ConvParams& p, int64_t channels, int64_t c0, int64_t c1,
               Act& x, float* ring) {
  const int64_t n = c1 - c0, before = p.taps - 1;
  float* state = span.state->recurrent(p.slot) + p.state_begin;
  for (int64_t j = 0; j < before; ++j)
    std::memcpy(ring + j * n, state + j * channels + c0, n * sizeof(float));
  for (int64_t r = span.row_begin; r < span.row_begin + span.n_rows; ++r) {
    float* row = x.row(r) + c0;
    std::memcpy(ring + before * n, row, n * sizeof(float));
    for (int64_t c = 0; c < n; ++c) {
      const float* kernel = p.kernel->data() + (c0 + c) * p.taps;
      float sum = p.bias ? p.bias->data()[c0 + c] : 0.0f;
      for (int64_t j = 0; j < p.taps; ++j) sum += kernel[j] * ring[j * n + c];
      row[c] = sum;
    }
    row_kernels().silu_mul(row, nullptr, n, row);
    std::memmove(ring, ring + n, before * n * sizeof(float));
  }
  for (int64_t j = 0; j < before; ++j)
    std::memcpy(state + j * channels + c0, ring + j * n, n * sizeof(float));
}

float softplus(float x) { return x > 20 ? x : std::log1p(std::exp(x)); }

void scan_span(const Span& span, const ScanParams& p, int64_t head, const Act& xbc, const Act& dt,
               Act& y) {
  const int64_t inner = p.n_heads * p.head_dim, group = head / (p.n_heads / p.n_groups);
  float* state = span.state->recurrent(p.slot) + p.state_begin + head * p.head_dim * p.d_state;
  for (int64_t r = span.row_begin; r < span.row_begin + span.n_rows; ++r) {
    const float step = softplus(dt.row(r)[head] + p.dt_bias->data()[head]);
    const float decay = std::exp(step * p.a->data()[head]);
    const float* x = xbc.row(r) + head * p.head_dim;
    const float* b = xbc.row(r) + inner + group * p.d_state;
    const float* c = b + p.n_groups * p.d_state;
    float* out = y.row(r) + head * p.head_dim;
    for (int64_t i = 0; i < p.head_dim; ++i) {
      const float mixed =
          row_kernels().scan_step(state + i * p.d_state, decay, step * x[i], b, c, p.d_state);
      out[i] = mixed + p.skip->data()[head] * x[i];
    }
  }
}

}  // namespace

void causal_conv_silu(Context& context, const Step& step, const ConvParams& p, Act& x) {
  const int64_t channels = x.cols();
  Act rings = context.allocate(context.threads(), p.taps * kChannelBlock);
  const Context::Scope scope(
      context, {.op = "conv",
                .state_bytes = step.spans.size() * static_cast<uint64_t>((p.taps - 1) * channels) *
                               sizeof(float),
                .f32_macs = static_cast<uint64_t>(x.rows() * channels * p.taps)},
      {}, {&x});
  if (!scope.computes()) return;
  const int64_t blocks = ceil_div(channels, kChannelBlock);
  const int64_t items = blocks * static_cast<int64_t>(step.spans.size());
  context.pool().parallel_for(items, 1, [&](int64_t begin, int64_t end, int worker) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t c0 = i % blocks * kChannelBlock;
      conv_span(step.spans[i / blocks], p, channels, c0, std::min(channels, c0 + kChannelBlock), x,
                rings.row(worker));
    }
  });
}

Act ssd_scan(Context& context, const Step& step, const ScanParams& p, const Act& xbc,
             const Act& dt) {
  Act y = context.allocate(xbc.rows(), p.n_heads * p.head_dim);
  const uint64_t state = static_cast<uint64_t>(p.n_heads * p.head_dim * p.d_state);
  const Context::Scope scope(context, {.op = "scan",
                                       .state_bytes = step.spans.size() * state * sizeof(float),
                                       .f32_macs = 3 * static_cast<uint64_t>(xbc.rows()) * state},
                             {&xbc, &dt}, {&y});
  if (!scope.computes()) return y;
  const int64_t items = p.n_heads * static_cast<int64_t>(step.spans.size());
  context.pool().parallel_for(items, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i)
      scan_span(step.spans[i / p.n_heads], p, i % p.n_heads, xbc, dt, y);
  });
  return y;
}

}  // namespace venturi
