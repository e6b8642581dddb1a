#include "kernels/matmul/matmul.h"

#include <cassert>
#include <cstring>

#include "base/checked.h"

namespace venturi {

#if defined(__x86_64__)
namespace avx2 { extern const MatmulTable matmul; }
namespace avx512 { extern const MatmulTable matmul; }
#elif defined(__aarch64__)
namespace neon { extern const MatmulTable matmul; }
#endif
namespace portable { extern const MatmulTable matmul; }

const MatmulTable& matmul_table(Isa isa) {
  switch (isa) {
#if defined(__x86_64__)
    case Isa::kAvx2: return avx2::matmul;
    case Isa::kAvx512: return avx512::matmul;
#elif defined(__aarch64__)
    case Isa::kNeon: return neon::matmul;
#endif
    default: return portable::matmul;
  }
}

int64_t Int8Rows::bytes(int64_t rows, int64_t k) {
  const int64_t blocks = k / 32;
  return rows * blocks * (32 + 3 * 4 + 4 * 4);
}

Int8Rows Int8Rows::over(void* buffer, int64_t rows, int64_t k) {
  const int64_t n = rows * (k / 32);
  Int8Rows x;
  x.rows = rows;
  x.k = k;
  x.q = static_cast<int8_t*>(buffer);
  x.d = reinterpret_cast<float*>(x.q + n * 32);
  x.negative_sum = reinterpret_cast<int32_t*>(x.d + n);
  x.negative_dsum = reinterpret_cast<float*>(x.negative_sum + n);
  x.half_sum = reinterpret_cast<int32_t*>(x.negative_dsum + n);
  x.half_dsum = reinterpret_cast<float*>(x.half_sum + 2 * n);
  return x;
}

int64_t FloatPanels::bytes(int64_t rows, int64_t k, int panel) { return round_up(rows, panel) * k * 4; }

void pack_panels(const float* x, int64_t stride, int64_t m_begin, int64_t m_end, const FloatPanels& out) {
  for (int64_t m = m_begin; m < m_end; m += out.panel) {
    float* panel = out.x + m * out.k;
    const int columns = static_cast<int>(m_end - m < out.panel ? m_end - m : out.panel);
    for (int c = 0; c < out.panel; ++c) {
      if (c < columns) {
        const float* row = x + (m + c) * stride;
        for (int64_t k = 0; k < out.k; ++k) panel[k * out.panel + c] = row[k];
      } else {
        for (int64_t k = 0; k < out.k; ++k) panel[k * out.panel + c] = 0;
      }
    }
  }
}

}  // namespace venturi
