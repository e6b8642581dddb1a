// The search for scales that every block encoder shares.
//
// A block format represents x by scale * q, or scale * q - min, with q from a small set of levels.
// The encoders minimise sum w (x - x')^2, where w is the importance, or 1. For fixed codes the best
// scale (and min) is a weighted least-squares fit in closed form; for a fixed scale the best codes
// are the nearest levels. The searches try a grid of scales and alternate the two from the best of
// it, then look again at what is really stored: scales rounded to a half or to a few bits.
//
// Input is cleaned first, so that every encoder is defined for every input:
//   NaN becomes 0; infinities and values beyond +-65504 (the largest half) become +-65504, so that
//   no scale overflows; an importance that is negative or not finite counts as 0; a block whose
//   importances are all 0 is encoded as if they were all equal.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "codecs/block.h"

namespace venturi::search {

// Four floats in one register, on x86-64 as on AArch64.
typedef float F4 __attribute__((vector_size(16)));

constexpr int kMaxBlock = 256;
constexpr float kLargestHalf = 65504.0f;
// Half of the smallest positive half: what is below is nearest to 0 under any scale that can be
// stored.
constexpr float kVanishing = 0x1p-25f;

// The cleaned values of one block and their weights, the largest weight scaled to 1.
struct Samples {
  alignas(16) float x[kMaxBlock];
  alignas(16) float w[kMaxBlock];
};
void load_samples(const float* values, const float* importance, int n, Samples& samples);

// The value farthest from 0, sign kept.
float extreme(const float* x, int n);

// The extremes that a search starts from: that of all values with a weight, and that of the values
// whose weight is not small beside the mean: an unimportant outlier must not decide where the
// search looks.
struct Extremes {
  float all, heavy;
};
Extremes extremes(const float* x, const float* w, int n);
constexpr float kHeavy = 0.25f;  // of the mean weight

inline F4 load4(const float* p) {
  F4 v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
inline F4 splat(float f) { return F4{f, f, f, f}; }
inline float sum(F4 v) { return (v[0] + v[2]) + (v[1] + v[3]); }
inline F4 clamp(F4 y, float lo, float hi) {
  y = y < lo ? splat(lo) : y;
  return y > hi ? splat(hi) : y;
}
// Half to even, for |y| < 2^22: adding the constant leaves no bits for a fraction.
inline F4 round4(F4 y) { return (y + 0x1.8p23f) - 0x1.8p23f; }

// The levels lo..hi, all integers between.
struct UniformLevels {
  float lo, hi;
  F4 nearest(F4 y) const { return round4(clamp(y, lo, hi)); }
};

struct Fit {
  float scale;
  float error;      // sum w (x - scale * q)^2
  float curvature;  // sum w q^2: another scale with these codes costs curvature * difference^2 more
};

// Codes from `scale`, then the best scale for these codes. n is a multiple of 4.
template <class Levels>
Fit refit(const float* x, const float* w, int n, Levels levels, float scale) {
  const float inverse = 1.0f / scale;
  F4 rr{}, rq{}, qq{};
  for (int i = 0; i < n; i += 4) {
    const F4 v = load4(x + i);
    const F4 q = levels.nearest(v * inverse);
    const F4 r = v - scale * q;
    const F4 weight = load4(w + i);
    const F4 wr = weight * r;
    rr += wr * r;
    rq += wr * q;
    qq += weight * q * q;
  }
  // Fitting the residual instead of x itself avoids the difference of two large sums.
  const float q2 = sum(qq);
  const float shift = q2 > 0 ? sum(rq) / q2 : 0.0f;
  return {scale + shift, sum(rr) - shift * sum(rq), q2};
}

// sum w (x - scale * q)^2 with the nearest levels, at exactly this scale.
template <class Levels>
float squared_error(const float* x, const float* w, int n, Levels levels, float scale) {
  const float inverse = scale != 0 ? 1.0f / scale : 0.0f;
  F4 rr{};
  for (int i = 0; i < n; i += 4) {
    const F4 v = load4(x + i);
    const F4 r = v - scale * levels.nearest(v * inverse);
    rr += load4(w + i) * r * r;
  }
  return sum(rr);
}

// q[i] = the level nearest to x[i] / scale; the one nearest to 0 if scale is 0.
template <class Levels>
void quantize(const float* x, int n, Levels levels, float scale, int8_t* q) {
  const float inverse = scale != 0 ? 1.0f / scale : 0.0f;
  for (int i = 0; i < n; i += 4) {
    const F4 level = levels.nearest(load4(x + i) * inverse);
    for (int k = 0; k < 4; ++k) q[i + k] = static_cast<int8_t>(level[k]);
  }
}

// Scales to try, relative to the one that maps the extreme value exactly onto the outermost level:
// scale / (first + k * step) for k < count. Above 1 the extreme is clipped.
struct Grid {
  float first, step;
  int count;
};

// The best scale of either sign (one, if the levels are symmetric), unrounded; 0 if x vanishes.
template <class Levels>
Fit fit_scale(const float* x, const float* w, int n, Levels levels, Grid grid) {
  const Extremes far = extremes(x, w, n);
  Fit best{0.0f, squared_error(x, w, n, levels, 0.0f), 0.0f};
  const bool differ = std::abs(far.heavy) < 0.9f * std::abs(far.all);
  for (const float anchor : {far.all, differ ? far.heavy : 0.0f}) {
    if (std::abs(anchor) < kVanishing) continue;
    for (const float end : {levels.hi, levels.lo}) {
      if (end == 0 || end == -levels.hi)
        continue;  // no such side, or the mirror image of the first
      for (int k = 0; k < grid.count; ++k) {
        const float clip = grid.first + static_cast<float>(k) * grid.step;
        const Fit fit = refit(x, w, n, levels, anchor / end / clip);
        if (fit.error < best.error) best = fit;
      }
    }
  }
  for (int pass = 0; pass < 4 && best.scale != 0; ++pass) {
    const Fit next = refit(x, w, n, levels, best.scale);
    if (!(next.error < best.error)) break;
    best = next;
  }
  return best;
}

// As fit_scale, for a scale stored as a half: the half nearest to the best scale, its neighbours
// and the half of plain rounding are compared with the codes they would really get.
template <class Levels>
uint16_t fit_half_scale(const float* x, const float* w, int n, Levels levels, Grid grid) {
  const Fit fit = fit_scale(x, w, n, levels, grid);
  const float far = extreme(x, n);
  if (std::abs(far) < kVanishing) return 0;
  const uint16_t nearest = f32_to_f16(fit.scale);
  const uint16_t plain = f32_to_f16(far / (levels.lo == -levels.hi ? levels.hi : levels.lo));
  uint16_t best = 0;
  float best_error = squared_error(x, w, n, levels, 0.0f);
  for (const uint32_t h : {nearest + 0u, nearest - 1u, nearest + 1u, plain + 0u}) {
    const float scale = f16_to_f32(static_cast<uint16_t>(h));
    if (scale == 0 || !std::isfinite(scale)) continue;
    const float error = squared_error(x, w, n, levels, scale);
    if (error < best_error) {
      best_error = error;
      best = static_cast<uint16_t>(h);
    }
  }
  return best;
}

// A super-block of groups, each x = (d * scale[g]) * q, with d a half and scale[g] a small integer.
constexpr int kMaxGroups = 16;
struct GroupScales {
  uint16_t d = 0;
  int8_t scale[kMaxGroups] = {};
};

// What a super-block format allows, and how far to look.
struct GroupLimits {
  int groups, group_size;  // multiples of 4
  int lo, hi;              // of scale[g]
  int reach;               // integer scales tried on each side of the nearest
};

// The scales that the groups of a super-block would like: by the search, and by plain rounding.
struct Wish {
  alignas(16) float best[kMaxGroups];
  alignas(16) float curvature[kMaxGroups];
  alignas(16) float plain[kMaxGroups];
};

// The best integer scale of each group under d, each tried with the codes it would get; returns the
// error of the super-block.
template <class Levels>
float choose_scales(const Samples& s, Levels levels, const GroupLimits& limits, const Wish& wish,
                    GroupScales& out) {
  const float d = f16_to_f32(out.d);
  const auto bound = [&](float k) {
    return static_cast<int>(std::clamp(std::nearbyint(k), static_cast<float>(limits.lo),
                                       static_cast<float>(limits.hi)));
  };
  float total = 0;
  for (int g = 0; g < limits.groups; ++g) {
    const float* x = s.x + g * limits.group_size;
    const float* w = s.w + g * limits.group_size;
    float best = squared_error(x, w, limits.group_size, levels, 0.0f);
    out.scale[g] = 0;
    const auto scan = [&](float wanted, int reach) {
      const int last = bound(wanted + static_cast<float>(reach));
      for (int k = bound(wanted - static_cast<float>(reach)); k <= last; ++k) {
        const float error =
            squared_error(x, w, limits.group_size, levels, d * static_cast<float>(k));
        if (error < best) {
          best = error;
          out.scale[g] = static_cast<int8_t>(k);
        }
      }
    };
    if (d != 0) {
      scan(wish.best[g] / d, limits.reach);
      // Rounded to an integer, the other sign may be the better one: the levels are not symmetric.
      scan(-wish.best[g] / d, limits.reach);
      scan(wish.plain[g] / d, 0);
    }
    total += best;
  }
  return total;
}

// The d that fits best with the integer scales and codes that `in` leads to.
template <class Levels>
float refit_d(const Samples& s, Levels levels, const GroupLimits& limits, const GroupScales& in) {
  const float d = f16_to_f32(in.d);
  float numerator = 0;
  float denominator = 0;
  for (int g = 0; g < limits.groups; ++g) {
    if (in.scale[g] == 0 || d == 0) continue;
    const float k = in.scale[g];
    const Fit fit = refit(s.x + g * limits.group_size, s.w + g * limits.group_size,
                          limits.group_size, levels, d * k);
    // The group wants fit.scale = d * k, with weight fit.curvature.
    numerator += fit.curvature * k * fit.scale;
    denominator += fit.curvature * k * k;
  }
  return denominator > 0 ? numerator / denominator : d;
}

// Halves to start from. One of few bits is also tried rounded away from 0, or it might clip.
struct Starts {
  uint16_t half[8];
  int count = 0;
  void add(float value) {
    const uint16_t h = f32_to_f16(value);
    if ((h & 0x7fff) >= 0x7c00) return;
    half[count++] = h;
    if ((h & 0x7fff) < 0x40) half[count++] = h + 1;
  }
};

template <class Levels>
GroupScales fit_group_scales(const Samples& s, Levels levels, const GroupLimits& limits,
                             Grid group_grid, Grid d_grid) {
  Wish wish;
  for (int g = 0; g < limits.groups; ++g) {
    const float* x = s.x + g * limits.group_size;
    const Fit fit =
        fit_scale(x, s.w + g * limits.group_size, limits.group_size, levels, group_grid);
    wish.best[g] = fit.scale;
    wish.curvature[g] = fit.curvature;
    wish.plain[g] = extreme(x, limits.group_size) / levels.lo;
  }
  const float far = extreme(wish.best, limits.groups);
  const UniformLevels integers{static_cast<float>(limits.lo), static_cast<float>(limits.hi)};
  Starts starts;
  starts.add(fit_scale(wish.best, wish.curvature, limits.groups, integers, d_grid).scale);
  starts.add(far / integers.lo);
  starts.add(far / integers.hi);
  starts.add(extreme(wish.plain, limits.groups) / integers.lo);
  GroupScales best;
  float best_error = std::numeric_limits<float>::infinity();
  for (int start = 0; start < starts.count; ++start) {
    GroupScales trial;
    trial.d = starts.half[start];
    for (int pass = 0; pass < 4; ++pass) {
      const float error = choose_scales(s, levels, limits, wish, trial);
      if (!(error < best_error)) break;
      best_error = error;
      best = trial;
      const uint16_t d = f32_to_f16(refit_d(s, levels, limits, trial));
      if (d == trial.d) break;
      trial.d = d;
    }
  }
  return best;
}

}  // namespace venturi::search
