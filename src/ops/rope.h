// Rotary position embedding (Su et al., "RoFormer", 2021): pair i of a head, at position p, is turned
// by the angle p * frequencies[i]. Every scaling scheme is a way to fill in the frequencies, so the
// ops know only these.
#pragma once

#include <cstdint>
#include <vector>

namespace venturi {

struct Rope {
  // [dims / 2]; dims elements of each head are rotated, the first ones. Empty: no rotation.
  std::vector<double> frequencies;
  bool interleaved = false;  // pairs (2i, 2i + 1); else (i, i + dims / 2)
  float magnitude = 1;       // multiplies both parts of every rotated pair (YaRN's attention factor)

  int64_t dims() const { return 2 * static_cast<int64_t>(frequencies.size()); }

  // base^(-2 i / dims), each divided by `factor`.
  static std::vector<double> plain(int64_t dims, double base, double factor = 1);
  // Peng et al., "YaRN", 2023: frequencies that turn more than beta_fast times over the trained
  // context stay, those below beta_slow are divided by `factor`, with a ramp between.
  // Returns frequencies; the attention factor is the caller's.
  static std::vector<double> yarn(int64_t dims, double base, double factor, double trained_context, double beta_fast,
                                  double beta_slow);

  // Cosines and sines for one position: [dims / 2] each, magnitude applied.
  void table(int64_t position, float* cosine, float* sine) const;
  // A head with `table` values; `scratch` holds dims floats. The rotated pair ends up in halves
  // order whatever the input's: a permutation shared by queries and keys.
  void rotate(float* head, const float* cosine, const float* sine, float* scratch) const;
};

}  // namespace venturi
