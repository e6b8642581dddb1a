// Elementary functions over the vector wrapper; included inside an instruction set's namespace
// after its wrapper, like a kernel's generic.h. The same polynomial steps on every set: same bits.

// 2^x for x <= 127; 0 below -126 and for -inf. x = n + f, |f| <= 1/2, 2^f by a degree 6 polynomial
// (relative error below 2e-7 by comparison with double over the range, see math_test).
inline F32 exp2(F32 x) {
  const F32 clamped = max(x, set1(-127.0f));  // x may be -inf, not NaN
  const F32 n = round(clamped);
  const F32 f = sub(clamped, n);
  // ln(2)^i / i!
  F32 p = set1(1.5403530e-4f);
  p = fma(p, f, set1(1.3333558e-3f));
  p = fma(p, f, set1(9.6181291e-3f));
  p = fma(p, f, set1(5.5504109e-2f));
  p = fma(p, f, set1(2.4022651e-1f));
  p = fma(p, f, set1(6.9314718e-1f));
  p = fma(p, f, set1(1.0f));
  // n = -127 gives the bits of 0.
  const I32 bits = shl<23>(iadd(to_i32(n), iset1(127)));
  return mul(p, bits_f32(bits));
}

inline F32 exp(F32 x) {
  // Above 88.7 the result would not be finite; the clamp keeps silu and tanh of anything finite.
  return exp2(mul(min(x, set1(88.0f)), set1(1.44269504f)));
}

inline F32 sigmoid(F32 x) { return div(set1(1.0f), add(set1(1.0f), exp(sub(zero(), x)))); }

// 1 - 2 / (e^2x + 1), and the odd series near 0 where that cancels.
inline F32 tanh(F32 x) {
  const F32 e = exp(add(x, x));
  const F32 far = sub(set1(1.0f), div(set1(2.0f), add(e, set1(1.0f))));
  const F32 x2 = mul(x, x);
  F32 p = fma(x2, set1(0.021869488f), set1(-0.053968254f));
  p = fma(p, x2, set1(0.13333334f));
  p = fma(p, x2, set1(-0.33333334f));
  const F32 near = fma(mul(x, x2), p, x);
  return select_less(abs(x), set1(0.25f), near, far);
}
