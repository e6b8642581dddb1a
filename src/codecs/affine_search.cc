#include "codecs/affine_search.h"

#include <algorithm>

namespace venturi::search {

namespace {

// Sums over one group under a trial pair; r = x - scale * q - offset.
struct Sums {
  float rr, rq, r, qq, q, w;
};

Sums sums_at(const float* x, const float* w, int n, int max_code, float scale, float offset) {
  const float inverse = scale != 0 ? 1.0f / scale : 0.0f;
  const UniformLevels levels{0, static_cast<float>(max_code)};
  F4 rr{}, rq{}, r1{}, qq{}, q1{}, w1{};
  for (int i = 0; i < n; i += 4) {
    const F4 v = load4(x + i) - offset;
    const F4 q = levels.nearest(v * inverse);
    const F4 r = v - scale * q;
    const F4 weight = load4(w + i);
    const F4 wr = weight * r;
    const F4 wq = weight * q;
    rr += wr * r;
    rq += wr * q;
    r1 += wr;
    qq += wq * q;
    q1 += wq;
    w1 += weight;
  }
  return {sum(rr), sum(rq), sum(r1), sum(qq), sum(q1), sum(w1)};
}

// Codes from the pair, then the best pair for these codes.
AffineFit refit_affine(const float* x, const float* w, int n, int max_code, float scale,
                       float offset, bool from_zero) {
  const Sums s = sums_at(x, w, n, max_code, scale, offset);
  // Normal equations for the change of the pair: [qq q; q w] (ds, db) = (rq, r).
  const float determinant = s.qq * s.w - s.q * s.q;
  float ds = 0;
  float db = s.w > 0 ? s.r / s.w : 0.0f;
  if (determinant >
      1e-5f * s.qq * s.w) {  // else all codes are equal: only the offset is determined
    ds = (s.rq * s.w - s.r * s.q) / determinant;
    db = (s.r * s.qq - s.rq * s.q) / determinant;
  }
  if (from_zero && offset + db > 0) {
    db = -offset;
    ds = s.qq > 0 ? (s.rq - db * s.q) / s.qq : 0.0f;
  }
  const float error =
      s.rr - 2 * (ds * s.rq + db * s.r) + ds * ds * s.qq + 2 * ds * db * s.q + db * db * s.w;
  return {scale + ds, offset + db, error, s.qq};
}

}  // namespace

float affine_error(const float* x, const float* w, int n, int max_code, float scale, float offset) {
  const float inverse = scale != 0 ? 1.0f / scale : 0.0f;
  const UniformLevels levels{0, static_cast<float>(max_code)};
  F4 rr{};
  for (int i = 0; i < n; i += 4) {
    const F4 v = load4(x + i) - offset;
    const F4 r = v - scale * levels.nearest(v * inverse);
    rr += load4(w + i) * r * r;
  }
  return sum(rr);
}

void affine_codes(const float* x, int n, int max_code, float scale, float offset, int8_t* q) {
  const float inverse = scale != 0 ? 1.0f / scale : 0.0f;
  const UniformLevels levels{0, static_cast<float>(max_code)};
  for (int i = 0; i < n; i += 4) {
    const F4 code = levels.nearest((load4(x + i) - offset) * inverse);
    for (int k = 0; k < 4; ++k) q[i + k] = static_cast<int8_t>(code[k]);
  }
}

namespace {

struct Range {
  float lo, hi;
};

// Of the values with at least this weight.
Range range_of(const float* x, const float* w, int n, float least, bool from_zero) {
  Range range{std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity()};
  for (int i = 0; i < n; ++i) {
    if (w[i] < least) continue;
    range.lo = std::min(range.lo, x[i]);
    range.hi = std::max(range.hi, x[i]);
  }
  if (from_zero) range.lo = std::min(range.lo, 0.0f);
  return range;
}

void search_grid(const float* x, const float* w, int n, int max_code, AffineGrid grid,
                 bool from_zero, Range range, AffineFit& best) {
  for (int i = 0; i < grid.count; ++i)
    for (int j = 0; j < grid.count; ++j) {
      const float a = grid.first + static_cast<float>(i) * grid.step;
      const float b = grid.first + static_cast<float>(j) * grid.step;
      const float scale = (range.hi - range.lo) / (static_cast<float>(max_code) + a + b);
      const AffineFit fit = refit_affine(x, w, n, max_code, scale, range.lo + a * scale, from_zero);
      if (fit.error < best.error) best = fit;
    }
}

}  // namespace

AffineFit fit_affine(const float* x, const float* w, int n, int max_code, AffineGrid grid,
                     bool from_zero) {
  float total = 0;
  for (int i = 0; i < n; ++i) total += w[i];
  // Weights are 0 or at least the smallest positive float.
  const Range all = range_of(x, w, n, std::numeric_limits<float>::denorm_min(), from_zero);
  if (!(all.lo <= all.hi)) return {0, 0, 0, 0};  // nothing has a weight
  AffineFit best = refit_affine(x, w, n, max_code, 0.0f, all.lo, from_zero);
  if (all.hi - all.lo < kVanishing) return best;
  search_grid(x, w, n, max_code, grid, from_zero, all, best);
  const Range heavy = range_of(x, w, n, kHeavy * total / static_cast<float>(n), from_zero);
  if (heavy.hi - heavy.lo < 0.9f * (all.hi - all.lo) && heavy.hi - heavy.lo > kVanishing)
    search_grid(x, w, n, max_code, grid, from_zero, heavy, best);
  for (int pass = 0; pass < 4 && best.scale > 0; ++pass) {
    const AffineFit next = refit_affine(x, w, n, max_code, best.scale, best.offset, from_zero);
    if (!(next.error < best.error)) break;
    best = next;
  }
  return best;
}

HalfPair fit_half_pair(const float* x, const float* w, int n, int max_code, AffineGrid grid) {
  const float lo = *std::min_element(x, x + n);
  const float hi = *std::max_element(x, x + n);
  HalfPair best{0, 0};
  float best_error = affine_error(x, w, n, max_code, 0, 0);
  const auto consider = [&](uint32_t scale_bits, uint32_t offset_bits) {
    const float scale = f16_to_f32(static_cast<uint16_t>(scale_bits));
    const float offset = f16_to_f32(static_cast<uint16_t>(offset_bits));
    if (!std::isfinite(scale) || !std::isfinite(offset)) return;
    const float error = affine_error(x, w, n, max_code, scale, offset);
    if (!(error < best_error)) return;
    best_error = error;
    best = {static_cast<uint16_t>(scale_bits), static_cast<uint16_t>(offset_bits)};
  };
  const AffineFit fit = fit_affine(x, w, n, max_code, grid, false);
  const uint32_t scale = f32_to_f16(fit.scale);
  const uint32_t offset = f32_to_f16(fit.offset);
  for (const uint32_t s : {scale, scale - 1, scale + 1})
    for (const uint32_t o : {offset, offset - 1, offset + 1}) consider(s & 0xffff, o & 0xffff);
  // Plain rounding, and all values equal.
  consider(f32_to_f16((hi - lo) / static_cast<float>(max_code)), f32_to_f16(lo));
  consider(0, f32_to_f16(lo));
  return best;
}

namespace {

int nearest_within(float wanted, int hi) {
  return static_cast<int>(std::nearbyint(std::clamp(wanted, 0.0f, static_cast<float>(hi))));
}

// What each group would like: scale and -offset by the search, with the weights of a deviation from
// either, and by plain rounding.
struct Wishes {
  alignas(16) float scale[kMaxGroups], scale_weight[kMaxGroups];
  alignas(16) float min[kMaxGroups], min_weight[kMaxGroups];
  alignas(16) float plain_scale[kMaxGroups], plain_min[kMaxGroups];
};

float choose_pairs(const Samples& s, const PairLimits& limits, const Wishes& wish,
                   GroupPairs& out) {
  const float d = f16_to_f32(out.d);
  const float dmin = f16_to_f32(out.dmin);
  float total = 0;
  for (int g = 0; g < limits.groups; ++g) {
    const float* x = s.x + g * limits.group_size;
    const float* w = s.w + g * limits.group_size;
    const auto integer = [&](float wanted, float unit) {
      return unit > 0 ? nearest_within(wanted / unit, limits.max_scale) : 0;
    };
    float best = std::numeric_limits<float>::infinity();
    const auto consider = [&](int k, int m) {
      const float error = affine_error(x, w, limits.group_size, limits.max_code,
                                       d * static_cast<float>(k), -dmin * static_cast<float>(m));
      if (!(error < best)) return;
      best = error;
      out.scale[g] = static_cast<uint8_t>(k);
      out.min[g] = static_cast<uint8_t>(m);
    };
    const int scale = integer(wish.scale[g], d);
    const int min = integer(wish.min[g], dmin);
    for (int k = std::max(0, scale - limits.scale_reach);
         k <= std::min(limits.max_scale, scale + limits.scale_reach); ++k)
      for (int m = std::max(0, min - limits.min_reach);
           m <= std::min(limits.max_scale, min + limits.min_reach); ++m)
        consider(k, m);
    consider(integer(wish.plain_scale[g], d), integer(wish.plain_min[g], dmin));
    total += best;
  }
  return total;
}

// The pair (d, dmin) that fits best with the integers and codes that `in` leads to.
void refit_pair(const Samples& s, const PairLimits& limits, const GroupPairs& in, float& d,
                float& dmin) {
  // Columns: k * q for d, -m for dmin; the residual of the present pair on the right-hand side.
  float kk = 0, km = 0, mm = 0, rk = 0, rm = 0;
  for (int g = 0; g < limits.groups; ++g) {
    const float k = in.scale[g];
    const float m = in.min[g];
    const Sums sums = sums_at(s.x + g * limits.group_size, s.w + g * limits.group_size,
                              limits.group_size, limits.max_code, d * k, -dmin * m);
    kk += k * k * sums.qq;
    km -= k * m * sums.q;
    mm += m * m * sums.w;
    rk += k * sums.rq;
    rm -= m * sums.r;
  }
  const float determinant = kk * mm - km * km;
  if (determinant > 1e-5f * kk * mm) {
    d += (rk * mm - rm * km) / determinant;
    dmin += (rm * kk - rk * km) / determinant;
  } else if (kk > 0) {
    d += rk / kk;
  }
}

// Integers and codes for (d, dmin), then the best (d, dmin) for these, while it helps.
void descend(const Samples& s, const PairLimits& limits, const Wishes& wish, uint16_t d_start,
             uint16_t dmin_start, GroupPairs& best, float& best_error) {
  GroupPairs trial;
  trial.d = d_start;
  trial.dmin = dmin_start;
  for (int pass = 0; pass < 4; ++pass) {
    const float error = choose_pairs(s, limits, wish, trial);
    if (!(error < best_error)) return;
    best_error = error;
    best = trial;
    float d = f16_to_f32(trial.d);
    float dmin = f16_to_f32(trial.dmin);
    refit_pair(s, limits, trial, d, dmin);
    const uint16_t d_bits = f32_to_f16(std::clamp(d, 0.0f, kLargestHalf));
    const uint16_t dmin_bits = f32_to_f16(std::clamp(dmin, 0.0f, kLargestHalf));
    if (d_bits == trial.d && dmin_bits == trial.dmin) return;
    trial.d = d_bits;
    trial.dmin = dmin_bits;
  }
}

}  // namespace

GroupPairs fit_group_pairs(const Samples& s, const PairLimits& limits, AffineGrid grid) {
  Wishes wish;
  for (int g = 0; g < limits.groups; ++g) {
    const float* x = s.x + g * limits.group_size;
    const float* w = s.w + g * limits.group_size;
    const AffineFit fit = fit_affine(x, w, limits.group_size, limits.max_code, grid, true);
    wish.scale[g] = std::max(0.0f, fit.scale);
    wish.min[g] = std::max(0.0f, -fit.offset);
    wish.scale_weight[g] = fit.curvature;
    wish.min_weight[g] = 0;
    for (int i = 0; i < limits.group_size; ++i) wish.min_weight[g] += w[i];
    const float lo = std::min(0.0f, *std::min_element(x, x + limits.group_size));
    const float hi = *std::max_element(x, x + limits.group_size);
    wish.plain_min[g] = -lo;
    wish.plain_scale[g] = std::max(0.0f, hi - lo) / static_cast<float>(limits.max_code);
  }
  const UniformLevels integers{0, static_cast<float>(limits.max_scale)};
  const Grid d_grid{0.85f, 0.0125f, 25};
  const float starts[3][2] = {
      {fit_scale(wish.scale, wish.scale_weight, limits.groups, integers, d_grid).scale,
       fit_scale(wish.min, wish.min_weight, limits.groups, integers, d_grid).scale},
      {extreme(wish.scale, limits.groups) / integers.hi,
       extreme(wish.min, limits.groups) / integers.hi},
      {extreme(wish.plain_scale, limits.groups) / integers.hi,
       extreme(wish.plain_min, limits.groups) / integers.hi}};
  GroupPairs best;
  float best_error = choose_pairs(s, limits, wish, best);
  for (const auto& start : starts) {
    Starts d;
    Starts dmin;
    d.add(start[0]);
    dmin.add(start[1]);
    for (int i = 0; i < d.count; ++i)
      for (int j = 0; j < dmin.count; ++j)
        descend(s, limits, wish, d.half[i], dmin.half[j], best, best_error);
  }
  return best;
}

}  // namespace venturi::search
