// Inputs for the codec tests: the same on every machine, from counter-based random numbers.
#pragma once

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "base/random.h"
#include "codecs/codec.h"

namespace venturi::codec_testing {

inline bool is_float_codec(const Codec& codec) { return codec.unpack == nullptr; }

inline double uniform(uint64_t stream, uint64_t i) { return random_uniform(2024, stream, i); }

inline double gaussian(uint64_t stream, uint64_t i) {
  const double radius = std::sqrt(-2 * std::log(1 - uniform(stream, 2 * i)));
  return radius * std::cos(2 * M_PI * uniform(stream, 2 * i + 1));
}

inline double laplace(uint64_t stream, uint64_t i) {
  const double u = uniform(stream, i) - 0.5;
  return std::copysign(-std::log(1 - 2 * std::abs(u)), u);
}

struct Distribution {
  const char* name;
  double (*value)(uint64_t stream, uint64_t i);
};

inline constexpr Distribution kDistributions[] = {
    {"gaussian", [](uint64_t s, uint64_t i) { return 0.02 * gaussian(s, i); }},
    {"laplace", [](uint64_t s, uint64_t i) { return 0.02 * laplace(s, i); }},
    {"uniform", [](uint64_t s, uint64_t i) { return 2 * uniform(s, i) - 1; }},
    {"positive", [](uint64_t s, uint64_t i) { return 1 + 0.1 * gaussian(s, i); }},
    {"negative", [](uint64_t s, uint64_t i) { return -3 - uniform(s, i); }},
    // One value in 64 is 20 times larger.
    {"outliers", [](uint64_t s, uint64_t i) { return gaussian(s, i) * (i % 64 == 5 ? 20 : 1); }},
    // Every group of 16 has its own magnitude, over three decades.
    {"uneven",
     [](uint64_t s, uint64_t i) {
       return gaussian(s, i) * std::pow(10, -3 * uniform(s + 50, i / 16));
     }},
    // So small that the scales are subnormal halves.
    {"tiny", [](uint64_t s, uint64_t i) { return 2e-5 * gaussian(s, i); }},
};

inline std::vector<float> draw(const Distribution& distribution, uint64_t stream, int n) {
  std::vector<float> values(n);
  for (int i = 0; i < n; ++i) values[i] = static_cast<float>(distribution.value(stream, i));
  return values;
}

// Log-normal, as the mean squares of real inputs are.
inline std::vector<float> draw_importance(uint64_t stream, int n) {
  std::vector<float> values(n);
  for (int i = 0; i < n; ++i) values[i] = static_cast<float>(std::exp(1.2 * gaussian(stream, i)));
  return values;
}

inline double squared_error(const std::vector<float>& x, const std::vector<float>& y,
                            const std::vector<float>& weight) {
  double total = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double difference = static_cast<double>(x[i]) - y[i];
    total += (weight.empty() ? 1.0 : weight[i]) * difference * difference;
  }
  return total;
}

inline std::vector<uint8_t> encode(const Codec& codec, const std::vector<float>& values,
                                   const std::vector<float>& importance = {}) {
  std::vector<uint8_t> blocks(codec.bytes(values.size()));
  codec.encode(values.data(), importance.empty() ? nullptr : importance.data(), blocks.data(),
               static_cast<int64_t>(values.size()));
  return blocks;
}

inline std::vector<float> decode(const Codec& codec, const std::vector<uint8_t>& blocks) {
  const size_t n = blocks.size() / codec.block_bytes * codec.block_elems;
  std::vector<float> values(n);
  codec.decode(blocks.data(), values.data(), static_cast<int64_t>(n));
  return values;
}

inline std::string lower(std::string_view name) {
  std::string out(name);
  for (char& c : out) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

class CodecTest : public testing::TestWithParam<const Codec*> {
 protected:
  const Codec& codec = *GetParam();
};

inline std::vector<const Codec*> every_codec() {
  return {all_codecs().begin(), all_codecs().end()};
}
inline std::vector<const Codec*> block_codecs() {
  std::vector<const Codec*> out;
  for (const Codec* codec : all_codecs())
    if (!is_float_codec(*codec)) out.push_back(codec);
  return out;
}
inline std::string codec_name(const testing::TestParamInfo<const Codec*>& info) {
  return std::string(info.param->name);
}

}  // namespace venturi::codec_testing
