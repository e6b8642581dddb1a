// The encoders against plain rounding: scales from the extreme values, then the nearest codes.
#include <algorithm>

#include "codecs/test_data.h"

namespace venturi {
namespace {

using namespace codec_testing;

// The grids of the formats, written down independently of the encoders.
struct Shape {
  const char* codec;
  int lo, hi;              // codes
  int scale_lo, scale_hi;  // integer scales (and mins) of groups; 0 if a group's scale is a half
};
constexpr Shape kShapes[] = {
    {"Q4_0", -8, 7, 0, 0},        {"Q4_1", 0, 15, 0, 0},       {"Q5_0", -16, 15, 0, 0},
    {"Q5_1", 0, 31, 0, 0},        {"Q8_0", -127, 127, 0, 0},   {"Q2_K", 0, 3, 0, 15},
    {"Q3_K", -4, 3, -32, 31},     {"Q4_K", 0, 15, 0, 63},      {"Q5_K", 0, 31, 0, 63},
    {"Q6_K", -32, 31, -128, 127}, {"IQ4_NL", -127, 113, 0, 0}, {"IQ4_XS", -127, 113, -32, 31},
};

const Shape* shape_of(const Codec& codec) {
  for (const Shape& shape : kShapes)
    if (shape.codec == codec.name) return &shape;
  return nullptr;
}

float half(float f) { return f16_to_f32(f32_to_f16(f)); }

float nearest_level(const Codec& codec, const Shape& shape, float y) {
  if (codec.name.substr(0, 3) != "IQ4")
    return std::clamp(std::nearbyint(y), static_cast<float>(shape.lo),
                      static_cast<float>(shape.hi));
  static constexpr int kLevels[] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                    1,    13,   25,  38,  53,  69,  89,  113};
  float best = kLevels[0];
  for (const int level : kLevels)
    if (std::abs(y - static_cast<float>(level)) < std::abs(y - best))
      best = static_cast<float>(level);
  return best;
}

// One block by plain rounding.
std::vector<float> plain_rounding(const Codec& codec, const Shape& shape, const float* x) {
  const int groups = codec.block_elems / codec.group;
  const bool k_format = shape.scale_hi != 0;
  std::vector<float> scale(groups), offset(groups);
  for (int g = 0; g < groups; ++g) {
    const auto [lo, hi] = std::minmax_element(x + g * codec.group, x + (g + 1) * codec.group);
    if (codec.has_min) {
      offset[g] = k_format ? std::min(*lo, 0.0f) : *lo;
      scale[g] = std::max(0.0f, *hi - offset[g]) / static_cast<float>(shape.hi);
    } else {
      scale[g] = (std::abs(*lo) > std::abs(*hi) ? *lo : *hi) / static_cast<float>(shape.lo);
    }
  }
  const auto round_to_integers = [&](std::vector<float>& v) {
    float far = 0;
    for (const float f : v) far = std::abs(f) > std::abs(far) ? f : far;
    const int end = codec.has_min ? shape.scale_hi : shape.scale_lo;
    const float d = half(far / static_cast<float>(end));
    for (float& f : v)
      f = d == 0 ? 0.0f
                 : d * std::clamp(std::nearbyint(f / d), static_cast<float>(shape.scale_lo),
                                  static_cast<float>(shape.scale_hi));
  };
  if (k_format) {
    round_to_integers(scale);
    for (float& f : offset) f = -f;
    round_to_integers(offset);
    for (float& f : offset) f = -f;
  } else {
    for (float& f : scale) f = half(f);
    for (float& f : offset) f = half(f);
  }
  std::vector<float> out(codec.block_elems);
  for (int i = 0; i < codec.block_elems; ++i) {
    const int g = i / codec.group;
    out[i] =
        scale[g] == 0 && codec.has_min ? offset[g]
        : scale[g] == 0
            ? 0.0f
            : scale[g] * nearest_level(codec, shape, (x[i] - offset[g]) / scale[g]) + offset[g];
  }
  return out;
}

class Encoder : public CodecTest {};
INSTANTIATE_TEST_SUITE_P(Codecs, Encoder, testing::ValuesIn(block_codecs()), codec_name);

TEST_P(Encoder, NoBlockIsWorseThanPlainRounding) {
  const Shape* shape = shape_of(codec);
  ASSERT_NE(shape, nullptr) << "add the codec's grid to kShapes";
  constexpr int kBlocks = 64;
  const int n = kBlocks * codec.block_elems;
  const std::vector<float> importance = draw_importance(20, n);
  for (const Distribution& distribution : kDistributions) {
    const std::vector<float> x = draw(distribution, 21, n);
    for (const bool weighted : {false, true}) {
      const std::vector<float> w = weighted ? importance : std::vector<float>{};
      const std::vector<float> ours = decode(codec, encode(codec, x, w));
      for (int b = 0; b < kBlocks; ++b) {
        const auto part = [&](const std::vector<float>& v) {
          if (v.empty()) return v;
          const auto from = v.begin() + b * codec.block_elems;
          return std::vector<float>(from, from + codec.block_elems);
        };
        const std::vector<float> xb = part(x);
        const double plain = squared_error(xb, plain_rounding(codec, *shape, xb.data()), part(w));
        // The encoders add up in f32, hence the last factor.
        EXPECT_LE(squared_error(xb, part(ours), part(w)), plain * (1 + 1e-4))
            << distribution.name << " block " << b << (weighted ? " weighted" : "");
      }
    }
  }
}

TEST_P(Encoder, ImportanceReducesTheWeightedError) {
  const int n = 64 * 256;
  const std::vector<float> importance = draw_importance(22, n);
  for (const int which : {0, 1, 2, 5}) {
    const std::vector<float> x = draw(kDistributions[which], 23, n);
    const double without = squared_error(x, decode(codec, encode(codec, x)), importance);
    const double with = squared_error(x, decode(codec, encode(codec, x, importance)), importance);
    EXPECT_LT(with, 0.95 * without) << kDistributions[which].name;
  }
}

// A value of weight 0 may be lost, the others gain: in the limit they are all there is.
TEST_P(Encoder, ValuesWithoutImportanceAreIgnored) {
  const int n = codec.block_elems;
  std::vector<float> x = draw(kDistributions[0], 24, n);
  std::vector<float> importance(n, 1.0f);
  for (int i = 0; i < n; i += 16) {
    x[i] *= 100;
    importance[i] = 0;
  }
  const double with = squared_error(x, decode(codec, encode(codec, x, importance)), importance);
  const double without = squared_error(x, decode(codec, encode(codec, x)), importance);
  EXPECT_LT(with, 0.2 * without);
}

}  // namespace
}  // namespace venturi
