constexpr int kChains = 12;

int64_t peak_int8(int64_t steps, float* sink) {
  I32 acc[kChains];
  for (I32& a : acc) a = iset1(0);
  // Opaque to the compiler, so that the products are not folded.
  Bytes w = bytes1(5), x = bytes1(3);
  asm volatile("" : : "r"(&w), "r"(&x) : "memory");
  for (int64_t i = 0; i < steps; ++i) {
    asm volatile("" ::: "memory");
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) acc[c] = int8_step(acc[c], w, x);
  }
  int64_t total = 0;
  for (const I32 a : acc) total += any_lane(a);
  *sink = static_cast<float>(total);
  return steps * kChains * 4 * kLanes;
}

int64_t peak_f32(int64_t steps, float* sink) {
  F32 acc[kChains];
  for (F32& a : acc) a = zero();
  float wv = 0.5f, xv = 0.25f;
  asm volatile("" : "+m"(wv), "+m"(xv));
  const F32 w = set1(wv), x = set1(xv);
  for (int64_t i = 0; i < steps; ++i) {
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) acc[c] = fma(w, x, acc[c]);
  }
  F32 sum = zero();
  for (const F32 a : acc) sum = add(sum, a);
  float lanes[kLanes];
  store(lanes, sum);
  *sink = lanes[0];
  return steps * kChains * kLanes;
}

void read_bytes(const uint8_t* p, int64_t n, float* sink) {
  constexpr int kBytes = 4 * kLanes;
  I32 sums[4] = {iset1(0), iset1(0), iset1(0), iset1(0)};
  for (int64_t i = 0; i < n; i += 4 * kBytes)
    for (int j = 0; j < 4; ++j) sums[j] = ior(sums[j], iload(reinterpret_cast<const int32_t*>(p + i + j * kBytes)));
  *sink = static_cast<float>(any_lane(ior(ior(sums[0], sums[1]), ior(sums[2], sums[3]))));
}

constexpr PeakKernels make_peak() { return {peak_int8, peak_f32, read_bytes}; }
