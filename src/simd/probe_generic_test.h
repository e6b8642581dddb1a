// Fills a SimdProbe over the wrapper; included in a set's namespace after its wrapper and math.h.

template <typename Fn>
void each(const float* a, float* y, int64_t n, Fn fn) {
  for (int64_t i = 0; i < n; i += kLanes) store(y + i, fn(load(a + i)));
}
template <typename Fn>
void each(const float* a, const float* b, float* y, int64_t n, Fn fn) {
  for (int64_t i = 0; i < n; i += kLanes) store(y + i, fn(load(a + i), load(b + i)));
}
template <typename Fn>
void ieach(const int32_t* a, int32_t* y, int64_t n, Fn fn) {
  for (int64_t i = 0; i < n; i += kLanes) istore(y + i, fn(iload(a + i)));
}
template <typename Fn>
void ieach(const int32_t* a, const int32_t* b, int32_t* y, int64_t n, Fn fn) {
  for (int64_t i = 0; i < n; i += kLanes) istore(y + i, fn(iload(a + i), iload(b + i)));
}
void put_bytes(uint8_t* p, Bytes v) { std::memcpy(p, &v, 4 * kLanes); }
template <typename Fn>
void beach(const uint8_t* a, uint8_t* y, int64_t n, Fn fn) {
  for (int64_t i = 0; i < n; i += 4 * kLanes) put_bytes(y + i, fn(load_bytes(a + i)));
}

template <typename Fn>
void weach(const uint16_t* a, const uint16_t* b, uint16_t* y, int64_t n, Fn fn) {
  for (int64_t i = 0; i < n; i += 2 * kLanes) {
    const I16 v = fn(wload(reinterpret_cast<const uint8_t*>(a + i)),
                     wload(reinterpret_cast<const uint8_t*>(b + i)));
    std::memcpy(y + i, &v, 4 * kLanes);
  }
}

template <int kMax, int kWords>
void dot_parts(const uint8_t* w, const int8_t* x, const int32_t* init, int32_t* y) {
  for (int part = 0; part < 16 / kLanes; ++part) {
    Bytes words[kWords];
    for (int j = 0; j < kWords; ++j) words[j] = load_bytes(w + j * 64 + part * kLanes * 4);
    istore(y + part * kLanes, dot_block<kMax, kWords>(words, x, iload(init + part * kLanes)));
  }
}
template <int kWords>
void signed_parts(const uint8_t* w, const int8_t* x, int32_t negative_sum, int32_t* y) {
  for (int part = 0; part < 16 / kLanes; ++part)
    istore(y + part * kLanes,
           dot_signed<kWords>(load_signed<kWords>(w + part * kLanes * 4, 64), x, negative_sum));
}

constexpr SimdProbe make_probe() {
  SimdProbe p{};
  p.name = kName;
  p.lanes = kLanes;
  p.abs = [](const float* a, float* y, int64_t n) { each(a, y, n, [](F32 v) { return abs(v); }); };
  p.sqrt = [](const float* a, float* y, int64_t n) {
    each(a, y, n, [](F32 v) { return sqrt(v); });
  };
  p.round = [](const float* a, float* y, int64_t n) {
    each(a, y, n, [](F32 v) { return round(v); });
  };
  p.exp2 = [](const float* a, float* y, int64_t n) {
    each(a, y, n, [](F32 v) { return exp2(v); });
  };
  p.exp = [](const float* a, float* y, int64_t n) { each(a, y, n, [](F32 v) { return exp(v); }); };
  p.sigmoid = [](const float* a, float* y, int64_t n) {
    each(a, y, n, [](F32 v) { return sigmoid(v); });
  };
  p.tanh = [](const float* a, float* y, int64_t n) {
    each(a, y, n, [](F32 v) { return tanh(v); });
  };
  p.add = [](const float* a, const float* b, float* y, int64_t n) {
    each(a, b, y, n, [](F32 v, F32 w) { return add(v, w); });
  };
  p.sub = [](const float* a, const float* b, float* y, int64_t n) {
    each(a, b, y, n, [](F32 v, F32 w) { return sub(v, w); });
  };
  p.mul = [](const float* a, const float* b, float* y, int64_t n) {
    each(a, b, y, n, [](F32 v, F32 w) { return mul(v, w); });
  };
  p.div = [](const float* a, const float* b, float* y, int64_t n) {
    each(a, b, y, n, [](F32 v, F32 w) { return div(v, w); });
  };
  p.max = [](const float* a, const float* b, float* y, int64_t n) {
    each(a, b, y, n, [](F32 v, F32 w) { return max(v, w); });
  };
  p.min = [](const float* a, const float* b, float* y, int64_t n) {
    each(a, b, y, n, [](F32 v, F32 w) { return min(v, w); });
  };
  p.fma = [](const float* a, const float* b, const float* c, float* y, int64_t n) {
    for (int64_t i = 0; i < n; i += kLanes)
      store(y + i, fma(load(a + i), load(b + i), load(c + i)));
  };
  p.select_less = [](const float* a, const float* b, const float* yes, const float* no, float* y,
                     int64_t n) {
    for (int64_t i = 0; i < n; i += kLanes)
      store(y + i, select_less(load(a + i), load(b + i), load(yes + i), load(no + i)));
  };
  p.reduce_max = [](const float* a, float* y, int64_t n) {
    for (int64_t i = 0; i < n; i += 16) {
      F32 top = load(a + i);
      for (int j = kLanes; j < 16; j += kLanes) top = max(top, load(a + i + j));
      y[i / 16] = reduce_max(top);
    }
  };
  p.constants = [](float* y) {
    for (int i = 0; i < 16; i += kLanes) {
      store(y + i, set1(2.5f));
      store(y + 16 + i, zero());
    }
  };

  p.load_f16 = [](const uint16_t* a, float* y, int64_t n) {
    for (int64_t i = 0; i < n; i += kLanes) store(y + i, load_f16(a + i));
  };
  p.store_f16 = [](const float* a, uint16_t* y, int64_t n) {
    for (int64_t i = 0; i < n; i += kLanes) store_f16(y + i, load(a + i));
  };
  p.load_bf16 = [](const uint16_t* a, float* y, int64_t n) {
    for (int64_t i = 0; i < n; i += kLanes) store(y + i, load_bf16(a + i));
  };
  p.load_f16_pairs = [](const uint8_t* a, float* first, float* second, int64_t n) {
    for (int64_t i = 0; i < n; i += kLanes) {
      F32 u, v;
      load_f16_pairs(a + 4 * i, u, v);
      store(first + i, u);
      store(second + i, v);
    }
  };

  p.iadd = [](const int32_t* a, const int32_t* b, int32_t* y, int64_t n) {
    ieach(a, b, y, n, [](I32 v, I32 w) { return iadd(v, w); });
  };
  p.isub = [](const int32_t* a, const int32_t* b, int32_t* y, int64_t n) {
    ieach(a, b, y, n, [](I32 v, I32 w) { return isub(v, w); });
  };
  p.iand = [](const int32_t* a, const int32_t* b, int32_t* y, int64_t n) {
    ieach(a, b, y, n, [](I32 v, I32 w) { return iand(v, w); });
  };
  p.ior = [](const int32_t* a, const int32_t* b, int32_t* y, int64_t n) {
    ieach(a, b, y, n, [](I32 v, I32 w) { return ior(v, w); });
  };
  p.shl3 = [](const int32_t* a, int32_t* y, int64_t n) {
    ieach(a, y, n, [](I32 v) { return shl<3>(v); });
  };
  p.shl23 = [](const int32_t* a, int32_t* y, int64_t n) {
    ieach(a, y, n, [](I32 v) { return shl<23>(v); });
  };
  p.shr4 = [](const int32_t* a, int32_t* y, int64_t n) {
    ieach(a, y, n, [](I32 v) { return shr<4>(v); });
  };
  p.sar24 = [](const int32_t* a, int32_t* y, int64_t n) {
    ieach(a, y, n, [](I32 v) { return sar<24>(v); });
  };
  p.shr_by = [](const int32_t* a, int by, int32_t* y, int64_t n) {
    ieach(a, y, n, [by](I32 v) { return shr(v, by); });
  };
  p.to_f32 = [](const int32_t* a, float* y, int64_t n) {
    for (int64_t i = 0; i < n; i += kLanes) store(y + i, to_f32(iload(a + i)));
  };
  p.to_i32 = [](const float* a, int32_t* y, int64_t n) {
    for (int64_t i = 0; i < n; i += kLanes) istore(y + i, to_i32(load(a + i)));
  };
  p.bits_round_trip = [](const float* a, float* y, int64_t n) {
    each(a, y, n, [](F32 v) { return bits_f32(bits_i32(v)); });
  };
  p.store_i8 = [](const int32_t* a, int8_t* y, int64_t n) {
    for (int64_t i = 0; i < n; i += kLanes) store_i8(y + i, iload(a + i));
  };
  p.iset1 = [](int32_t x, int32_t* y) {
    for (int i = 0; i < 16; i += kLanes) istore(y + i, iset1(x));
  };

  p.wadd = [](const uint16_t* a, const uint16_t* b, uint16_t* y, int64_t n) {
    weach(a, b, y, n, [](I16 v, I16 w) { return wadd(v, w); });
  };
  p.wmul = [](const uint16_t* a, const uint16_t* b, uint16_t* y, int64_t n) {
    weach(a, b, y, n, [](I16 v, I16 w) { return wmul(v, w); });
  };
  p.wand = [](const uint16_t* a, const uint16_t* b, uint16_t* y, int64_t n) {
    weach(a, b, y, n, [](I16 v, I16 w) { return wand(v, w); });
  };
  p.wshr4 = [](const uint16_t* a, uint16_t* y, int64_t n) {
    weach(a, a, y, n, [](I16 v, I16) { return wshr<4>(v); });
  };
  p.widen = [](const uint16_t* a, int32_t* y, int64_t n) {
    for (int64_t i = 0; i < n; i += 2 * kLanes) {
      const I16 v = wload(reinterpret_cast<const uint8_t*>(a + i));
      istore(y + i, widen_low(v));
      istore(y + i + kLanes, widen_high(v));
    }
  };
  p.load_i8 = [](const int8_t* a, int32_t* y, int64_t n) {
    for (int64_t i = 0; i < n; i += kLanes) istore(y + i, load_i8(a + i));
  };
  p.imul_add = [](const int32_t* acc, const int32_t* a, int32_t x, int32_t* y, int64_t n) {
    for (int64_t i = 0; i < n; i += kLanes)
      istore(y + i, imul_add(iload(acc + i), iload(a + i), x));
  };

  p.low_nibbles = [](const uint8_t* a, uint8_t* y, int64_t n) {
    beach(a, y, n, [](Bytes v) { return low_nibbles(v); });
  };
  p.high_nibbles = [](const uint8_t* a, uint8_t* y, int64_t n) {
    beach(a, y, n, [](Bytes v) { return high_nibbles(v); });
  };
  p.two_bits = [](int shift, const uint8_t* a, uint8_t* y, int64_t n) {
    if (shift == 0) beach(a, y, n, [](Bytes v) { return two_bits_to_high<0>(v); });
    if (shift == 2) beach(a, y, n, [](Bytes v) { return two_bits_to_high<2>(v); });
    if (shift == 4) beach(a, y, n, [](Bytes v) { return two_bits_to_high<4>(v); });
    if (shift == 6) beach(a, y, n, [](Bytes v) { return two_bits_to_high<6>(v); });
  };
  p.or_bytes = [](const uint8_t* a, const uint8_t* b, uint8_t* y, int64_t n) {
    for (int64_t i = 0; i < n; i += 4 * kLanes)
      put_bytes(y + i, or_bytes(load_bytes(a + i), load_bytes(b + i)));
  };
  p.bytes1 = [](int8_t v, uint8_t* y) {
    for (int i = 0; i < 64; i += 4 * kLanes) put_bytes(y + i, bytes1(v));
  };

  p.dot_4bit = dot_parts<15, 8>;
  p.dot_6bit = dot_parts<63, 4>;
  p.dot_7bit = dot_parts<127, 8>;
  p.dot_signed8 = signed_parts<8>;
  p.dot_signed4 = signed_parts<4>;
  p.int8_step = [](const int32_t* acc, const uint8_t* w, const uint8_t* x, int32_t* y) {
    for (int i = 0; i < 16; i += kLanes) {
      const I32 sum = int8_step(iload(acc + i), load_bytes(w + 4 * i), load_bytes(x + 4 * i));
      istore(y + i, sum);
      if (any_lane(sum) != y[i]) y[i] = ~y[i];  // any_lane is the first
    }
  };
  return p;
}
