// Elementary functions over the vector wrapper; included inside an instruction set's namespace
// after its wrapper, like a kernel's generic.h. The same polynomial steps on every set: same bits.

// 2^x for x <= 127; 0 below -126.5 and for -inf; NaN for NaN. x = n + f, |f| <= 1/2, 2^f by a
// polynomial of degree 6 (relative error below 1e-7 by comparison with double over the range, see
// wrapper_test.cc).
inline F32 exp2(F32 x) {
  const F32 clamped = max(set1(-127.0f), x);  // x may be -inf; second operand: NaN stays NaN
  const F32 n = round(clamped);
  const F32 f = sub(clamped, n);
  // Least largest relative error among those with p(0) = 1, so that 2^0 is 1 exactly.
  F32 p = set1(1.5353362e-4f);
  p = fma(p, f, set1(1.3398875e-3f));
  p = fma(p, f, set1(9.6184369e-3f));
  p = fma(p, f, set1(5.5503324e-2f));
  p = fma(p, f, set1(2.4022648e-1f));
  p = fma(p, f, set1(6.9314718e-1f));
  p = fma(p, f, set1(1.0f));
  // n = -127 gives the bits of 0.
  const I32 bits = shl<23>(iadd(to_i32(n), iset1(127)));
  return mul(p, bits_f32(bits));
}

inline F32 exp(F32 x) {
  // Above 88.7 the result would not be finite; the clamp keeps silu and tanh of anything finite.
  return exp2(mul(min(set1(88.0f), x), set1(1.44269504f)));
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
