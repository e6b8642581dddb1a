#include <cmath>
#include <vector>

#include "kernels/matmul/matmul.h"

namespace venturi {

void matmul_reference_float(const float* w, const float* x, int64_t m, int64_t n, int64_t k, float* y) {
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j) {
      float sum = 0;
      for (int64_t t = 0; t < k; ++t) sum = std::fma(w[j * k + t], x[i * k + t], sum);
      y[i * n + j] = sum;
    }
}

void matmul_reference_int8(const int8_t* q, const float* scale, const float* min, int group, const float* x, int64_t m,
                           int64_t n, int64_t k, float* y) {
  std::vector<int> xq(k);
  std::vector<float> d(k / 32);
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t b = 0; b < k / 32; ++b) {
      const float* block = x + i * k + b * 32;
      float amax = 0;
      bool finite = true;
      for (int t = 0; t < 32; ++t) {
        finite = finite && std::isfinite(block[t]);
        amax = std::fmax(amax, std::fabs(block[t]));
      }
      const bool any = finite && amax >= kLeastInput;
      d[b] = !finite ? NAN : any ? amax / 127.0f : 0.0f;
      for (int t = 0; t < 32; ++t)
        xq[b * 32 + t] = any ? static_cast<int>(std::nearbyint(block[t] * (127.0f / amax))) : 0;
    }
    for (int64_t j = 0; j < n; ++j) {
      float sum = 0;
      for (int64_t g = 0; g < k / group; ++g) {
        int dot = 0, total = 0;
        for (int t = 0; t < group; ++t) {
          dot += q[j * k + g * group + t] * xq[g * group + t];
          total += xq[g * group + t];
        }
        const float dx = d[g * group / 32];
        sum = std::fma(static_cast<float>(dot), scale[j * (k / group) + g] * dx, sum);
        if (min) sum = std::fma(min[j * (k / group) + g], dx * static_cast<float>(-total), sum);
      }
      y[i * n + j] = sum;
    }
  }
}

}  // namespace venturi
