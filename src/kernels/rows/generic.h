// The row kernels over the vector wrapper; see rows.h for the sums' order.

constexpr int kRowParts = 16 / kLanes;

// Folds 16 lanes held as kRowParts vectors by the written tree.
template <typename Combine>
inline float fold16(const F32* parts, Combine combine) {
  float lanes[16];
  for (int p = 0; p < kRowParts; ++p) store(lanes + p * kLanes, parts[p]);
  for (int width = 8; width >= 1; width /= 2)
    for (int i = 0; i < width; ++i) lanes[i] = combine(lanes[i], lanes[i + width]);
  return lanes[0];
}
inline float plus(float a, float b) { return a + b; }
inline float larger(float a, float b) { return a > b ? a : b; }

// Calls term(vector, part) over the row, the last time with a zero-padded copy of the tail.
template <typename Load, typename Term>
inline void over_row(int64_t n, Load load_at, Term term) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16)
    for (int p = 0; p < kRowParts; ++p) term(load_at(i + p * kLanes), p);
  if (i < n) {
    float tail[16] = {};
    for (int64_t j = i; j < n; ++j) tail[j - i] = load_at.at(j);
    for (int p = 0; p < kRowParts; ++p) term(venturi_isa::load(tail + p * kLanes), p);
  }
}

struct FromRow {
  const float* x;
  F32 operator()(int64_t i) const { return venturi_isa::load(x + i); }
  float at(int64_t i) const { return x[i]; }
};

// y[i] = fn(a[i], b[i]) with tails through small copies.
template <typename Fn>
inline void map_rows(const float* a, const float* b, int64_t n, float* y, Fn fn) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(y + i, fn(venturi_isa::load(a + i), venturi_isa::load(b + i)));
  if (i < n) {
    float ta[kLanes] = {}, tb[kLanes] = {}, ty[kLanes];
    for (int64_t j = i; j < n; ++j) {
      ta[j - i] = a[j];
      tb[j - i] = b[j];
    }
    store(ty, fn(venturi_isa::load(ta), venturi_isa::load(tb)));
    for (int64_t j = i; j < n; ++j) y[j] = ty[j - i];
  }
}

void rms_norm(const float* x, const float* weight, float epsilon, int64_t n, float* y) {
  F32 sums[kRowParts];
  for (F32& s : sums) s = zero();
  over_row(n, FromRow{x}, [&](F32 v, int p) { sums[p] = fma(v, v, sums[p]); });
  const float mean = fold16(sums, plus) / static_cast<float>(n);
  const F32 scale = set1(1.0f / __builtin_sqrtf(mean + epsilon));
  map_rows(x, weight, n, y, [&](F32 v, F32 w) { return mul(mul(v, scale), w); });
}

void layer_norm(const float* x, const float* weight, const float* bias, float epsilon, int64_t n, float* y) {
  F32 sums[kRowParts];
  for (F32& s : sums) s = zero();
  over_row(n, FromRow{x}, [&](F32 v, int p) { sums[p] = add(v, sums[p]); });
  const float mean = fold16(sums, plus) / static_cast<float>(n);
  map_rows(x, x, n, y, [&](F32 v, F32) { return sub(v, set1(mean)); });
  for (F32& s : sums) s = zero();
  over_row(n, FromRow{y}, [&](F32 v, int p) { sums[p] = fma(v, v, sums[p]); });
  const float variance = fold16(sums, plus) / static_cast<float>(n);
  const F32 scale = set1(1.0f / __builtin_sqrtf(variance + epsilon));
  map_rows(y, weight, n, y, [&](F32 v, F32 w) { return mul(mul(v, scale), w); });
  if (bias) map_rows(y, bias, n, y, [](F32 v, F32 b) { return add(v, b); });
}

void add_rows(const float* a, const float* b, int64_t n, float* y) {
  map_rows(a, b, n, y, [](F32 v, F32 w) { return add(v, w); });
}
void scale_row(float* x, float factor, int64_t n) {
  map_rows(x, x, n, x, [&](F32 v, F32) { return mul(v, set1(factor)); });
}
void add_scaled(const float* x, float factor, int64_t n, float* y) {
  map_rows(x, y, n, y, [&](F32 v, F32 w) { return fma(v, set1(factor), w); });
}
void silu_mul(const float* gate, const float* up, int64_t n, float* y) {
  if (up) return map_rows(gate, up, n, y, [](F32 g, F32 u) { return mul(mul(g, sigmoid(g)), u); });
  map_rows(gate, gate, n, y, [](F32 g, F32) { return mul(g, sigmoid(g)); });
}

// 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))
inline F32 gelu(F32 x) {
  const F32 inner = mul(mul(x, set1(0.79788456f)), fma(mul(x, x), set1(0.044715f), set1(1.0f)));
  return mul(mul(x, set1(0.5f)), add(set1(1.0f), tanh(inner)));
}
void gelu_mul(const float* gate, const float* up, int64_t n, float* y) {
  if (up) return map_rows(gate, up, n, y, [](F32 g, F32 u) { return mul(gelu(g), u); });
  map_rows(gate, gate, n, y, [](F32 g, F32) { return gelu(g); });
}
void soft_cap(float* x, float cap, int64_t n) {
  map_rows(x, x, n, x, [&](F32 v, F32) { return mul(tanh(div(v, set1(cap))), set1(cap)); });
}

void rotate_halves(float* x, const float* cosine, const float* sine, int64_t half) {
  float* second = x + half;
  int64_t i = 0;
  for (; i + kLanes <= half; i += kLanes) {
    const F32 a = venturi_isa::load(x + i), b = venturi_isa::load(second + i);
    const F32 c = venturi_isa::load(cosine + i), s = venturi_isa::load(sine + i);
    store(x + i, fma(a, c, sub(zero(), mul(b, s))));
    store(second + i, fma(a, s, mul(b, c)));
  }
  for (; i < half; ++i) {
    const float a = x[i], b = second[i];
    x[i] = __builtin_fmaf(a, cosine[i], 0.0f - b * sine[i]);
    second[i] = __builtin_fmaf(a, sine[i], b * cosine[i]);
  }
}

constexpr float kLog2e = 1.44269504f;

void softmax_three_pass(float* x, int64_t n) {
  F32 tops[kRowParts];
  for (F32& t : tops) t = set1(x[0]);
  const int64_t whole = n / 16 * 16;
  for (int64_t i = 0; i < whole; i += 16)
    for (int p = 0; p < kRowParts; ++p) tops[p] = max(venturi_isa::load(x + i + p * kLanes), tops[p]);
  float top = fold16(tops, larger);
  for (int64_t i = whole; i < n; ++i) top = larger(x[i], top);
  const F32 shift = set1(top);
  const auto exponential = [&](F32 v) { return exp2(mul(sub(v, shift), set1(kLog2e))); };
  F32 sums[kRowParts];
  for (F32& s : sums) s = zero();
  for (int64_t i = 0; i < whole; i += 16)
    for (int p = 0; p < kRowParts; ++p) {
      const F32 e = exponential(venturi_isa::load(x + i + p * kLanes));
      store(x + i + p * kLanes, e);
      sums[p] = add(e, sums[p]);
    }
  if (whole < n) {
    float* rest = x + whole;
    map_rows(rest, rest, n - whole, rest, [&](F32 v, F32) { return exponential(v); });
    over_row(n - whole, FromRow{rest}, [&](F32 e, int p) { sums[p] = add(e, sums[p]); });
  }
  scale_row(x, 1.0f / fold16(sums, plus), n);
}

// e^v = m 2^n with n an integral float and m in [0.70, 1.42]: no finite v overflows.
inline void exp_pair(F32 v, F32& mantissa, F32& exponent) {
  exponent = round(mul(v, set1(0x1.715476p+0f)));
  F32 t = fma(exponent, set1(-0x1.62E43p-1f), v);
  t = fma(exponent, set1(0x1.05C61p-29f), t);
  F32 p = set1(0x1.0F9F9Cp-7f);
  p = fma(p, t, set1(0x1.573A1Ap-5f));
  p = fma(p, t, set1(0x1.555A80p-3f));
  p = fma(p, t, set1(0x1.FFFDC6p-2f));
  p = fma(p, t, set1(0x1.FFFFF6p-1f));
  mantissa = fma(p, t, set1(1.0f));
}
// 2^delta for integral delta <= 0; 0 from -127 down.
inline F32 power_of_two(F32 delta) {
  return bits_f32(shl<23>(iadd(to_i32(max(delta, set1(-127.0f))), iset1(127))));
}

template <int n>
struct Count {
  static constexpr int value = n;
};

void softmax_two_pass(float* x, int64_t n) {
  constexpr int kGroup = 4;  // vectors of 16 elements that move the exponent of the sum once
  F32 m[kRowParts], e[kRowParts];
  // Far below any exponent of a finite float, so the first term replaces it.
  for (int p = 0; p < kRowParts; ++p) {
    m[p] = zero();
    e[p] = set1(-1e30f);
  }
  const int64_t whole = n / 16 * 16;
  // Adds `count` vectors, 16 elements from one to the next.
  const auto accumulate = [&](const float* at, auto count, int p) {
    F32 mi[kGroup], ei[kGroup], top = e[p];
    for (int j = 0; j < count.value; ++j) {
      exp_pair(venturi_isa::load(at + j * 16), mi[j], ei[j]);
      top = max(ei[j], top);
    }
    m[p] = mul(m[p], power_of_two(sub(e[p], top)));
    for (int j = 0; j < count.value; ++j) m[p] = fma(mi[j], power_of_two(sub(ei[j], top)), m[p]);
    e[p] = top;
  };
  int64_t i = 0;
  for (; i + 16 * kGroup <= n; i += 16 * kGroup)
    for (int p = 0; p < kRowParts; ++p) accumulate(x + i + p * kLanes, Count<kGroup>{}, p);
  for (; i < whole; i += 16)
    for (int p = 0; p < kRowParts; ++p) accumulate(x + i + p * kLanes, Count<1>{}, p);
  float mantissas[16], exponents[16];
  for (int p = 0; p < kRowParts; ++p) {
    store(mantissas + p * kLanes, m[p]);
    store(exponents + p * kLanes, e[p]);
  }
  const auto merge = [](float& ma, float& ea, float mb, float eb) {
    const float top = ea > eb ? ea : eb;
    ma = __builtin_ldexpf(ma, static_cast<int>(larger(ea - top, -200.0f))) +
         __builtin_ldexpf(mb, static_cast<int>(larger(eb - top, -200.0f)));
    ea = top;
  };
  for (; i < n; ++i) {
    F32 mi, ei;
    exp_pair(set1(x[i]), mi, ei);
    float ms[kLanes], es[kLanes];
    store(ms, mi);
    store(es, ei);
    merge(mantissas[i - whole], exponents[i - whole], ms[0], es[0]);
  }
  for (int width = 8; width >= 1; width /= 2)
    for (int i = 0; i < width; ++i) merge(mantissas[i], exponents[i], mantissas[i + width], exponents[i + width]);
  const F32 inverse = set1(1.0f / mantissas[0]), top = set1(exponents[0]);
  map_rows(x, x, n, x, [&](F32 v, F32) {
    F32 mi, ei;
    exp_pair(v, mi, ei);
    return mul(mul(mi, inverse), power_of_two(sub(ei, top)));
  });
}

float scan_step(float* state, float decay, float x, const float* b, const float* c, int64_t n) {
  map_rows(state, b, n, state, [&](F32 s, F32 v) { return fma(s, set1(decay), mul(v, set1(x))); });
  F32 sums[kRowParts];
  for (F32& s : sums) s = zero();
  int64_t i = 0;
  for (; i + 16 <= n; i += 16)
    for (int p = 0; p < kRowParts; ++p)
      sums[p] = fma(venturi_isa::load(state + i + p * kLanes), venturi_isa::load(c + i + p * kLanes), sums[p]);
  if (i < n) {
    float ts[16] = {}, tc[16] = {};
    for (int64_t j = i; j < n; ++j) {
      ts[j - i] = state[j];
      tc[j - i] = c[j];
    }
    for (int p = 0; p < kRowParts; ++p)
      sums[p] = fma(venturi_isa::load(ts + p * kLanes), venturi_isa::load(tc + p * kLanes), sums[p]);
  }
  return fold16(sums, plus);
}

constexpr RowKernels make_rows() {
  return {rms_norm, layer_norm, add_rows, scale_row, add_scaled, silu_mul, gelu_mul, soft_cap, rotate_halves,
          softmax_three_pass, softmax_two_pass, scan_step};
}
