// The search for pairs of scale and offset: x = scale * q + offset, q in 0..max_code. See
// scale_search.h; `offset` is minus the `min` of the formats.
#pragma once

#include "codecs/scale_search.h"

namespace venturi::search {

struct AffineFit {
  float scale, offset;
  float error;      // sum w (x - scale * q - offset)^2
  float curvature;  // sum w q^2
};

// Candidate ranges: the smallest value gets code -a and the largest code max_code + b, for a and b
// each in first + k * step, k < count. Above 0 the ends are clipped.
struct AffineGrid {
  float first, step;
  int count;
};

// The best pair, unrounded. With `from_zero`, offset <= 0, as the K formats need.
AffineFit fit_affine(const float* x, const float* w, int n, int max_code, AffineGrid grid,
                     bool from_zero);

float affine_error(const float* x, const float* w, int n, int max_code, float scale, float offset);

// q[i] = the code nearest to (x[i] - offset) / scale, 0 if scale is 0.
void affine_codes(const float* x, int n, int max_code, float scale, float offset, int8_t* q);

// A block with its own scale and offset, both halves.
struct HalfPair {
  uint16_t scale, offset;
};
HalfPair fit_half_pair(const float* x, const float* w, int n, int max_code, AffineGrid grid);

// A super-block of groups, each x = (d * scale[g]) * q - dmin * min[g].
struct GroupPairs {
  uint16_t d = 0, dmin = 0;
  uint8_t scale[kMaxGroups] = {};
  uint8_t min[kMaxGroups] = {};
};

struct PairLimits {
  int groups, group_size;  // multiples of 4
  int max_code;
  int max_scale;               // of scale[g] and min[g]
  int scale_reach, min_reach;  // integers tried on each side of the nearest
};

GroupPairs fit_group_pairs(const Samples& s, const PairLimits& limits, AffineGrid grid);

}  // namespace venturi::search
