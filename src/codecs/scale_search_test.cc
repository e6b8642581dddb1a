// The searches against the best that there is, found by trying everything.
#include "codecs/scale_search.h"

#include "codecs/affine_search.h"
#include "codecs/test_data.h"

namespace venturi {
namespace {

using namespace codec_testing;

TEST(ScaleSearch, LoadCleansValuesAndScalesWeights) {
  const float inf = std::numeric_limits<float>::infinity();
  const float values[4] = {std::nanf(""), inf, -1e30f, 2};
  const float importance[4] = {4, -1, inf, 2};
  search::Samples s;
  search::load_samples(values, importance, 4, s);
  EXPECT_EQ(s.x[0], 0);
  EXPECT_EQ(s.x[1], 65504);
  EXPECT_EQ(s.x[2], -65504);
  EXPECT_EQ(s.x[3], 2);
  EXPECT_EQ(s.w[0], 1);
  EXPECT_EQ(s.w[1], 0);
  EXPECT_EQ(s.w[2], 0);
  EXPECT_EQ(s.w[3], 0.5f);
  search::load_samples(values, nullptr, 4, s);
  EXPECT_EQ(s.w[1], 1);
}

TEST(ScaleSearch, RefitIsTheLeastSquaresFit) {
  // Codes under scale 1: 1, 2, 3, -4 (clamped). Best scale: sum w x q / sum w q^2.
  alignas(16) const float x[4] = {1.2f, 1.9f, 3.0f, -9.0f};
  alignas(16) const float w[4] = {1, 2, 1, 0.5f};
  const search::Fit fit = search::refit(x, w, 4, search::UniformLevels{-4, 3}, 1.0f);
  const double xq = 1.2 + 2 * 1.9 * 2 + 9.0 + 0.5 * 36;
  const double qq = 1 + 2 * 4 + 9 + 0.5 * 16;
  EXPECT_NEAR(fit.scale, xq / qq, 1e-6);
  EXPECT_NEAR(fit.curvature, qq, 1e-5);
  const double xx = 1.44 + 2 * 3.61 + 9 + 0.5 * 81;
  EXPECT_NEAR(fit.error, xx - xq * xq / qq, 1e-5);
}

// The error of one block if its scale is any half at all.
double best_error_of_all_halves(const std::vector<float>& x, const std::vector<float>& w, int lo,
                                int hi) {
  double best = std::numeric_limits<double>::infinity();
  for (uint32_t h = 0; h < 0x10000; ++h) {
    const double scale = f16_to_f32(static_cast<uint16_t>(h));
    if (!std::isfinite(scale) || scale == 0) continue;
    double total = 0;
    for (size_t i = 0; i < x.size() && total < best; ++i) {
      const double q = std::clamp(std::nearbyint(x[i] / scale), static_cast<double>(lo),
                                  static_cast<double>(hi));
      total += w[i] * (x[i] - scale * q) * (x[i] - scale * q);
    }
    best = std::min(best, total);
  }
  return best;
}

// The grids are coarse and the last steps are local, so the very best scale may be missed; on the
// average of blocks at most a few per cent may be lost by that.
TEST(ScaleSearch, ComesNearTheBestOfAllScales) {
  struct Row {
    const char* codec;
    int lo, hi;
    double lost;  // relative, at most
  };
  for (const Row& row : {Row{"Q4_0", -8, 7, 0.01}, Row{"Q5_0", -16, 15, 0.03}}) {
    const Codec& codec = *find_codec(row.codec);
    double ours = 0;
    double best = 0;
    for (int b = 0; b < 6; ++b) {
      const std::vector<float> x = draw(kDistributions[b % 2], 30 + b, 32);
      const std::vector<float> w = draw_importance(40 + b, 32);
      ours += squared_error(x, decode(codec, encode(codec, x, w)), w);
      best += best_error_of_all_halves(x, w, row.lo, row.hi);
    }
    EXPECT_LE(ours, best * (1 + row.lost)) << row.codec;
    EXPECT_GE(ours, best * (1 - 1e-6)) << row.codec << ": the exhaustive search is wrong";
  }
}

TEST(AffineSearch, FindsTheLatticeOfItsData) {
  alignas(16) float x[32];
  alignas(16) float w[32];
  for (int i = 0; i < 32; ++i) {
    x[i] = -0.3f + 0.07f * static_cast<float>(i * 5 % 16);
    w[i] = 1;
  }
  const search::AffineFit fit = search::fit_affine(x, w, 32, 15, {-0.5f, 0.25f, 9}, false);
  EXPECT_NEAR(fit.scale, 0.07f, 1e-6);
  EXPECT_NEAR(fit.offset, -0.3f, 1e-6);
}

TEST(AffineSearch, FromZeroKeepsTheOffsetBelowZero) {
  alignas(16) float x[16];
  alignas(16) float w[16];
  for (int i = 0; i < 16; ++i) {
    x[i] = 5.0f + static_cast<float>(i % 4);
    w[i] = 1;
  }
  EXPECT_GT(search::fit_affine(x, w, 16, 3, {-0.3f, 0.15f, 9}, false).offset, 4.9f);
  const search::AffineFit fit = search::fit_affine(x, w, 16, 3, {-0.3f, 0.15f, 9}, true);
  EXPECT_LE(fit.offset, 0.0f);
  // With offset 0 at least: all values as one code, the mean.
  EXPECT_LE(fit.error, 16 * 1.25f + 1e-3f);
}

}  // namespace
}  // namespace venturi
