// What every codec must do. Walks the registry: a new member is tested as soon as it exists.
#include "codecs/codec.h"

#include <limits>
#include <set>

#include "codecs/test_data.h"

namespace venturi {
namespace {

using namespace codec_testing;

TEST(CodecRegistry, FindsEveryMemberByNameAndId) {
  std::set<std::string_view> names;
  std::set<uint32_t> ids;
  for (const Codec* codec : all_codecs()) {
    EXPECT_TRUE(names.insert(codec->name).second) << codec->name;
    EXPECT_TRUE(ids.insert(codec->ggml_type).second) << codec->name;
    EXPECT_EQ(find_codec(codec->name), codec);
    EXPECT_EQ(find_codec_by_ggml_type(codec->ggml_type), codec);
  }
  EXPECT_EQ(find_codec("q4_0"), nullptr) << "names are case-sensitive";
  EXPECT_EQ(find_codec(""), nullptr);
  EXPECT_EQ(find_codec_by_ggml_type(0xffffffff), nullptr);
}

// Ids, block sizes and byte sizes are the file format: they are written down once more here.
TEST(CodecRegistry, HasTheSizesOfTheFileFormat) {
  struct Row {
    const char* name;
    uint32_t id;
    int elems, bytes;
  };
  const Row rows[] = {
      {"F32", 0, 1, 4},        {"F16", 1, 1, 2},        {"BF16", 30, 1, 2},
      {"Q4_0", 2, 32, 2 + 16}, {"Q4_1", 3, 32, 4 + 16}, {"Q5_0", 6, 32, 2 + 4 + 16},
      {"Q5_1", 7, 32, 4 + 20}, {"Q8_0", 8, 32, 2 + 32}, {"Q2_K", 10, 256, 16 + 64 + 4},
      {"Q3_K", 11, 256, 110},  {"Q4_K", 12, 256, 144},  {"Q5_K", 13, 256, 176},
      {"Q6_K", 14, 256, 210},  {"IQ4_NL", 20, 32, 18},  {"IQ4_XS", 23, 256, 136},
  };
  for (const Row& row : rows) {
    const Codec* codec = find_codec(row.name);
    ASSERT_NE(codec, nullptr) << row.name;
    EXPECT_EQ(codec->ggml_type, row.id) << row.name;
    EXPECT_EQ(codec->block_elems, row.elems) << row.name;
    EXPECT_EQ(codec->block_bytes, row.bytes) << row.name;
  }
}

class EveryCodec : public CodecTest {};
INSTANTIATE_TEST_SUITE_P(Codecs, EveryCodec, testing::ValuesIn(every_codec()), codec_name);
class BlockCodec : public CodecTest {};
INSTANTIATE_TEST_SUITE_P(Codecs, BlockCodec, testing::ValuesIn(block_codecs()), codec_name);

TEST_P(EveryCodec, DescriptorIsConsistent) {
  EXPECT_EQ(codec.bytes(0), 0u);
  EXPECT_EQ(codec.bytes(codec.block_elems), static_cast<uint64_t>(codec.block_bytes));
  EXPECT_EQ(codec.bytes(7ull * codec.block_elems), 7ull * codec.block_bytes);
  // 2^40 values: no 32-bit product inside.
  EXPECT_EQ(codec.bytes(1ull << 40), (1ull << 40) / codec.block_elems * codec.block_bytes);
  EXPECT_DOUBLE_EQ(codec.bits_per_weight() * codec.block_elems, 8.0 * codec.block_bytes);
  if (is_float_codec(codec)) {
    EXPECT_EQ(codec.block_elems, 1);
    EXPECT_FALSE(codec.has_min);
  } else {
    EXPECT_TRUE(codec.group == 16 || codec.group == 32);
    EXPECT_EQ(codec.block_elems % codec.group, 0);
  }
}

// encode and decode write what they should and nothing behind it.
TEST_P(EveryCodec, WritesExactlyItsBytes) {
  const int n = 3 * codec.block_elems;
  const std::vector<float> values = draw(kDistributions[0], 1, n);
  std::vector<uint8_t> blocks(codec.bytes(n) + 64, 0xa5);
  codec.encode(values.data(), nullptr, blocks.data(), n);
  for (size_t i = codec.bytes(n); i < blocks.size(); ++i) ASSERT_EQ(blocks[i], 0xa5);
  std::vector<float> decoded(n + 16, -77.0f);
  codec.decode(blocks.data(), decoded.data(), n);
  for (int i = n; i < n + 16; ++i) ASSERT_EQ(decoded[i], -77.0f);
}

TEST_P(EveryCodec, SliceOfDecodeIsDecodeOfSlice) {
  const int n = 8 * codec.block_elems;
  const std::vector<float> values = draw(kDistributions[1], 2, n);
  const std::vector<float> importance = draw_importance(3, n);
  const std::vector<uint8_t> blocks = encode(codec, values, importance);
  const std::vector<float> whole = decode(codec, blocks);
  for (int b = 0; b < 8; ++b) {
    const std::vector<uint8_t> block(blocks.begin() + b * codec.block_bytes,
                                     blocks.begin() + (b + 1) * codec.block_bytes);
    const std::vector<float> slice = decode(codec, block);
    ASSERT_EQ(0, std::memcmp(slice.data(), whole.data() + b * codec.block_elems,
                             slice.size() * sizeof(float)));
    // Encoding, too, sees one block at a time, and says the same twice.
    const std::vector<float> v(values.begin() + b * codec.block_elems,
                               values.begin() + (b + 1) * codec.block_elems);
    const std::vector<float> w(importance.begin() + b * codec.block_elems,
                               importance.begin() + (b + 1) * codec.block_elems);
    ASSERT_EQ(encode(codec, v, w), block);
  }
}

// A scalar quantiser gains 6 dB (a factor 4 of squared error) a bit. All but 1.25 of the bits per
// weight must be felt: that much is left to the scales and to the range beyond the standard
// deviation.
TEST_P(BlockCodec, RoundTripErrorFitsTheBits) {
  for (const int which : {0, 1}) {
    const std::vector<float> values = draw(kDistributions[which], 4, 64 * 256);
    const double error = squared_error(values, decode(codec, encode(codec, values)), {});
    const double power = squared_error(values, std::vector<float>(values.size()), {});
    const double slack = which == 0 ? 1.25 : 1.6;  // long tails cost range
    EXPECT_LT(error / power, std::pow(4.0, slack - codec.bits_per_weight()))
        << kDistributions[which].name;
  }
}

// Bit for bit: scale * q is rounded once, and so is the subtraction.
TEST_P(BlockCodec, UnpackAgreesWithDecode) {
  const int n = 16 * codec.block_elems;
  for (const Distribution& distribution : kDistributions) {
    const std::vector<uint8_t> blocks = encode(codec, draw(distribution, 5, n));
    const std::vector<float> decoded = decode(codec, blocks);
    const int groups = codec.block_elems / codec.group;
    for (int b = 0; b < 16; ++b) {
      int8_t q[256];
      float scale[16];
      float min[16];
      for (int g = 0; g < 16; ++g) scale[g] = min[g] = std::nanf("");
      codec.unpack(blocks.data() + b * codec.block_bytes, q, scale, min);
      for (int g = groups; g < 16; ++g) ASSERT_TRUE(std::isnan(scale[g])) << "wrote too many";
      if (!codec.has_min) {
        ASSERT_TRUE(std::isnan(min[0])) << "wrote min without having one";
      }
      for (int i = 0; i < codec.block_elems; ++i) {
        const int g = i / codec.group;
        const float product = scale[g] * static_cast<float>(q[i]);
        const float value = codec.has_min ? product - min[g] : product;
        ASSERT_EQ(value, decoded[b * codec.block_elems + i]) << distribution.name << " " << i;
      }
    }
  }
}

// What a codec decoded it can encode again with much less loss than the first time: the values lie
// on its lattice, and the search should find the lattice.
TEST_P(BlockCodec, SecondRoundTripLosesLittle) {
  const std::vector<float> values = draw(kDistributions[0], 6, 64 * 256);
  const std::vector<float> once = decode(codec, encode(codec, values));
  const std::vector<float> twice = decode(codec, encode(codec, once));
  EXPECT_LT(squared_error(once, twice, {}), 0.5 * squared_error(values, once, {}));
}

TEST_P(EveryCodec, ZerosStayZeros) {
  const std::vector<float> zeros(4 * codec.block_elems);
  for (const float v : decode(codec, encode(codec, zeros))) ASSERT_EQ(v, 0.0f);
  const std::vector<float> minus(4 * codec.block_elems, -0.0f);
  for (const float v : decode(codec, encode(codec, minus))) ASSERT_EQ(v, 0.0f);
}

// One half holds the value up to 2^-11, and every format can reach its value by a half times
// integers.
TEST_P(EveryCodec, ConstantBlocksAreKept) {
  for (const float c : {1.0f, -1.0f, 0.3f, -0.7f, 1000.0f, -65504.0f, 65504.0f, 1e-3f})
    for (const float v : decode(codec, encode(codec, std::vector<float>(codec.block_elems, c))))
      ASSERT_NEAR(v, c, std::abs(c) * 0x1p-8f) << c;
}

// Below half of the smallest scale nothing can be stored; above, never worse than storing zeros.
TEST_P(BlockCodec, SmallValuesNeverGetWorseThanZero) {
  for (const double magnitude : {1e-45, 1e-38, 1e-20, 1e-9, 3e-8, 6e-8, 1e-7, 1e-6, 1e-5}) {
    std::vector<float> values(2 * codec.block_elems);
    for (size_t i = 0; i < values.size(); ++i)
      values[i] = static_cast<float>(magnitude * gaussian(7, i));
    const std::vector<float> decoded = decode(codec, encode(codec, values));
    EXPECT_LE(squared_error(values, decoded, {}),
              squared_error(values, std::vector<float>(values.size()), {}))
        << magnitude;
    if (magnitude < 1e-9) {
      for (const float v : decoded) ASSERT_EQ(v, 0.0f);
    }
  }
}

// Beyond the largest half the block formats clamp: scales stay finite.
TEST_P(BlockCodec, HugeAndInfiniteValuesClamp) {
  const float inf = std::numeric_limits<float>::infinity();
  for (const float huge : {1e5f, 3e38f, inf, -1e6f, -inf}) {
    std::vector<float> values(codec.block_elems);
    values[3] = huge;
    const std::vector<float> decoded = decode(codec, encode(codec, values));
    const float expected = std::copysign(65504.0f, huge);
    EXPECT_NEAR(decoded[3], expected, 0.01f * 65504.0f) << huge;
    for (const float v : decoded) ASSERT_TRUE(std::isfinite(v)) << huge;
  }
  std::vector<float> both(codec.block_elems, inf);
  for (int i = 0; i < codec.block_elems; i += 2) both[i] = -inf;
  for (const float v : decode(codec, encode(codec, both))) ASSERT_TRUE(std::isfinite(v));
}

TEST_P(BlockCodec, NanCountsAsZero) {
  std::vector<float> values = draw(kDistributions[0], 8, codec.block_elems);
  std::vector<float> cleaned = values;
  for (const int i : {0, 7, 31}) {
    values[i] = i == 7 ? -std::nanf("1") : std::nanf("");
    cleaned[i] = 0;
  }
  EXPECT_EQ(encode(codec, values), encode(codec, cleaned));
  const std::vector<float> nothing(codec.block_elems, std::nanf(""));
  for (const float v : decode(codec, encode(codec, nothing))) ASSERT_EQ(v, 0.0f);
}

TEST_P(BlockCodec, OddImportanceIsDefined) {
  const int n = codec.block_elems;
  const std::vector<float> values = draw(kDistributions[0], 9, n);
  // All zero: as if equal. A negative, infinite or NaN weight: as 0. Only ratios count.
  EXPECT_EQ(encode(codec, values, std::vector<float>(n, 0.0f)), encode(codec, values));
  EXPECT_EQ(encode(codec, values, std::vector<float>(n, 3.5f)), encode(codec, values));
  std::vector<float> odd = draw_importance(10, n);
  std::vector<float> zeroed = odd;
  odd[1] = -2;
  odd[2] = std::numeric_limits<float>::infinity();
  odd[3] = std::nanf("");
  zeroed[1] = zeroed[2] = zeroed[3] = 0;
  EXPECT_EQ(encode(codec, values, odd), encode(codec, values, zeroed));
}

// Any bits are a value, any bits are a block. (The sanitizer builds watch this one.)
TEST_P(EveryCodec, AnyBitsAreAccepted) {
  const int n = 8 * codec.block_elems < 256 ? 256 : 8 * codec.block_elems;
  std::vector<float> values(n);
  std::vector<float> importance(n);
  for (int i = 0; i < n; ++i) {
    const uint64_t bits = random_bits(11, codec.ggml_type, i);
    values[i] = std::bit_cast<float>(static_cast<uint32_t>(bits));
    importance[i] = std::bit_cast<float>(static_cast<uint32_t>(bits >> 32));
  }
  const std::vector<float> decoded = decode(codec, encode(codec, values, importance));
  if (!is_float_codec(codec)) {
    for (const float v : decoded) ASSERT_TRUE(std::isfinite(v));
  }
  std::vector<uint8_t> noise(codec.bytes(n));
  for (size_t i = 0; i < noise.size(); ++i)
    noise[i] = static_cast<uint8_t>(random_bits(12, codec.ggml_type, i));
  EXPECT_EQ(decode(codec, noise).size(), static_cast<size_t>(n));
}

}  // namespace
}  // namespace venturi
