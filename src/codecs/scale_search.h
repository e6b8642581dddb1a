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
  const float far = extreme(x, n);
  Fit best{0.0f, squared_error(x, w, n, levels, 0.0f), 0.0f};
  if (std::abs(far) < kVanishing) return best;
  for (const float end : {levels.hi, levels.lo}) {
    if (end == 0 || end == -levels.hi) continue;  // no such side, or the mirror image of the first
    const float base = far / end;
    for (int k = 0; k < grid.count; ++k) {
      const Fit fit =
          refit(x, w, n, levels, base / (grid.first + static_cast<float>(k) * grid.step));
      if (fit.error < best.error) best = fit;
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

// The best integer scale of each group under d, each tried with the codes it would get; returns the
// error of the super-block. `ideal` are the scales that the groups would like.
template <class Levels>
float choose_scales(const Samples& s, Levels levels, const GroupLimits& limits, const float* ideal,
                    GroupScales& out) {
  const float d = f16_to_f32(out.d);
  float total = 0;
  for (int g = 0; g < limits.groups; ++g) {
    const float* x = s.x + g * limits.group_size;
    const float* w = s.w + g * limits.group_size;
    float best = squared_error(x, w, limits.group_size, levels, 0.0f);
    out.scale[g] = 0;
    if (d != 0 && ideal[g] != 0) {
      const float wanted = std::nearbyint(ideal[g] / d);
      const int centre = static_cast<int>(std::fmin(
          std::fmax(wanted, static_cast<float>(limits.lo)), static_cast<float>(limits.hi)));
      const int first = centre - limits.reach < limits.lo ? limits.lo : centre - limits.reach;
      const int last = centre + limits.reach > limits.hi ? limits.hi : centre + limits.reach;
      for (int k = first; k <= last; ++k) {
        const float error =
            squared_error(x, w, limits.group_size, levels, d * static_cast<float>(k));
        if (error < best) {
          best = error;
          out.scale[g] = static_cast<int8_t>(k);
        }
      }
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

template <class Levels>
GroupScales fit_group_scales(const Samples& s, Levels levels, const GroupLimits& limits,
                             Grid group_grid, Grid d_grid) {
  alignas(16) float ideal[kMaxGroups];
  alignas(16) float weight[kMaxGroups];
  for (int g = 0; g < limits.groups; ++g) {
    const Fit fit = fit_scale(s.x + g * limits.group_size, s.w + g * limits.group_size,
                              limits.group_size, levels, group_grid);
    ideal[g] = fit.scale;
    weight[g] = fit.curvature;
  }
  const float far = extreme(ideal, limits.groups);
  const UniformLevels integers{static_cast<float>(limits.lo), static_cast<float>(limits.hi)};
  const float starts[3] = {fit_scale(ideal, weight, limits.groups, integers, d_grid).scale,
                           far / integers.lo, far / integers.hi};
  GroupScales best;
  float best_error = std::numeric_limits<float>::infinity();
  for (const float start : starts) {
    GroupScales trial;
    trial.d = f32_to_f16(start);
    for (int pass = 0; pass < 4; ++pass) {
      const float error = choose_scales(s, levels, limits, ideal, trial);
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
