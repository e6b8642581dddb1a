// Golden values of the block formats.
//
// tests/data/codecs/NAME.bin was written once with llama.cpp's ggml (commit c392e509), not with our
// code: a count (u32), that many blocks, and the floats that ggml decodes from them. The first half
// of the blocks are ggml's encoding of Gaussian numbers; the second half are random bytes, so that
// every bit of every field matters, with the scales kept finite and one of them subnormal.
#include <fstream>
#include <iterator>

#include "codecs/test_data.h"

namespace venturi {
namespace {

using namespace codec_testing;

class Golden : public CodecTest {};
INSTANTIATE_TEST_SUITE_P(Codecs, Golden, testing::ValuesIn(block_codecs()), codec_name);

TEST_P(Golden, DecodesTheBitsThatTheFormatsAuthorsDecode) {
  const std::string path =
      std::string(VENTURI_SOURCE_DIR "/tests/data/codecs/") + lower(codec.name) + ".bin";
  std::ifstream file(path, std::ios::binary);
  ASSERT_TRUE(file) << "every block codec needs golden data: " << path;
  const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
  ASSERT_GE(bytes.size(), 4u);
  uint32_t count;
  std::memcpy(&count, bytes.data(), 4);
  const size_t n = size_t{count} * codec.block_elems;
  ASSERT_GE(count, 4u);
  ASSERT_EQ(bytes.size(), 4 + codec.bytes(n) + 4 * n);
  std::vector<uint8_t> blocks(codec.bytes(n));
  std::memcpy(blocks.data(), bytes.data() + 4, blocks.size());
  std::vector<float> expected(n);
  std::memcpy(expected.data(), bytes.data() + 4 + blocks.size(), 4 * n);
  const std::vector<float> decoded = decode(codec, blocks);
  for (size_t i = 0; i < n; ++i)
    ASSERT_EQ(std::bit_cast<uint32_t>(decoded[i]), std::bit_cast<uint32_t>(expected[i]))
        << "value " << i << ": " << decoded[i] << " instead of " << expected[i];
}

// Small blocks worked out by hand: all bytes are 0 except those given.
struct Byte {
  int offset;
  uint8_t value;
};
struct Value {
  int index;
  float value;
};
struct HandMade {
  const char* codec;
  const char* reason;
  std::vector<Byte> bytes;
  std::vector<Value> values;
};

// 0x3c00 is 1.0, 0x3800 0.5, 0x4000 2.0, 0xbc00 -1.0; halves are stored low byte first.
const HandMade kHandMade[] = {
    {"Q4_0",
     "codes are stored with 8 added; value 16 is in the high half of byte 0",
     {{1, 0x3c}, {2, 0xf1}, {17, 0x08}},
     {{0, -7}, {16, 7}, {1, -8}, {15, 0}, {31, -8}}},
    {"Q4_1",
     "offset is added, not subtracted",
     {{1, 0x38}, {3, 0xbc}, {4, 0xf2}},
     {{0, 0}, {16, 6.5f}, {1, -1}}},
    {"Q5_0",
     "bit i of the 32 is the fifth bit of value i; codes are stored with 16 added",
     {{1, 0x3c}, {2, 0x01}, {5, 0x80}, {6, 0x0f}, {21, 0xf0}},
     {{0, 15}, {31, 15}, {16, -16}, {15, -16}, {1, -16}}},
    {"Q5_1",
     "as Q5_0, without the 16 and with an offset",
     {{1, 0x3c}, {3, 0x40}, {4, 0x01}, {7, 0x80}, {8, 0x0f}, {23, 0xf0}},
     {{0, 33}, {31, 33}, {16, 2}, {15, 2}}},
    {"Q8_0",
     "codes are signed bytes; -128 decodes although it is never written",
     {{1, 0xbc}, {2, 0x7f}, {3, 0x80}, {33, 0xff}},
     {{0, -127}, {1, 128}, {31, 1}, {2, 0}}},
    {"Q2_K",
     "group 0: scale 3, min 2; group 1: min 1; group 15: scale 1. Bits 2k of code byte 0 are value "
     "32k",
     {{0, 0x23}, {1, 0x10}, {15, 0x01}, {16, 0x03}, {16 + 63, 0xc0}, {81, 0x3c}, {83, 0x38}},
     {{0, 8}, {1, -1}, {16, -0.5f}, {255, 3}, {254, 0}}},
    {"Q3_K",
     "all scale bytes 0 is scale -32; a clear high bit subtracts 4; low scale nibble 1 with top "
     "bits 2 is 33 - 32",
     {{0, 0x01}, {32, 0x03}, {96, 0x01}, {104, 0x02}, {109, 0x3c}},
     {{0, 3}, {1, -4}, {16, 128}, {255, 128}}},
    {"Q4_K",
     "scale 4 takes its low bits from byte 8 and its high bits from byte 0, min 4 from bytes 8 and "
     "4",
     {{1, 0x3c}, {3, 0x38}, {4, 0x42}, {8, 0x83}, {12, 0x15}, {16, 0xf1}, {16 + 64, 0x01}},
     {{0, 0.5f}, {1, -1.5f}, {32, 0}, {128, 4.5f}, {129, -16.5f}}},
    {"Q5_K",
     "bit g of high byte l is the fifth bit of value 32 g + l",
     {{1, 0x3c}, {4, 0x01}, {7, 0x01}, {16, 0x01}, {17, 0x08}, {48, 0x0f}},
     {{0, 31}, {1, 0}, {96, 0}, {97, 16}}},
    {"Q6_K",
     "value 64 is in the high half of byte 0, its top bits at bit 4 of the first high byte; "
     "scale 4 is -2",
     {{0, 0xf3}, {128, 0x30}, {192, 1}, {196, 0xfe}, {209, 0x38}},
     {{0, -14.5f}, {64, -31}, {1, -16}, {65, 32}, {32, 0}}},
    {"IQ4_NL",
     "codes choose levels: 0 is -127, 8 is 1, 15 is 113",
     {{1, 0x38}, {2, 0xf8}},
     {{0, 0.5f}, {16, 56.5f}, {1, -63.5f}}},
    {"IQ4_XS",
     "scale 1 is low nibble 5 in the high half of byte 4 and top bits 2 at bit 2: 37 - 32; "
     "the others are -32",
     {{1, 0x3c}, {2, 0x08}, {4, 0x50}, {8, 0x08}, {24, 0xf0}},
     {{0, -32}, {32, -635}, {48, 565}, {1, 4064}}},
};

TEST(GoldenByHand, BlocksDecodeAsWorkedOut) {
  for (const HandMade& golden : kHandMade) {
    const Codec* codec = find_codec(golden.codec);
    ASSERT_NE(codec, nullptr) << golden.codec;
    std::vector<uint8_t> block(codec->block_bytes);
    for (const Byte& byte : golden.bytes) block[byte.offset] = byte.value;
    const std::vector<float> decoded = decode(*codec, block);
    for (const Value& v : golden.values)
      EXPECT_EQ(decoded[v.index], v.value)
          << golden.codec << " value " << v.index << ": " << golden.reason;
  }
}

TEST(GoldenByHand, CoverEveryBlockCodec) {
  for (const Codec* codec : block_codecs()) {
    bool found = false;
    for (const HandMade& golden : kHandMade) found |= golden.codec == codec->name;
    EXPECT_TRUE(found) << codec->name;
  }
}

// Encoders, where the best block is known without a search.
TEST(GoldenByHand, EncodersReachTheExactBlock) {
  // -8..7 in steps of 1 is Q4_0 with scale 1, and nothing else is exact: 15 steps need all 16
  // codes.
  std::vector<float> ramp(32);
  for (int i = 0; i < 32; ++i) ramp[i] = static_cast<float>(i % 16 - 8);
  const Codec& q4_0 = *find_codec("Q4_0");
  EXPECT_EQ(encode(q4_0, ramp)[1], 0x3c);
  EXPECT_EQ(decode(q4_0, encode(q4_0, ramp)), ramp);
  // The value farthest from 0 is positive: it gets code -8 by a negative scale.
  for (float& v : ramp) v = -v;
  EXPECT_EQ(encode(q4_0, ramp)[1], 0xbc);
  EXPECT_EQ(decode(q4_0, encode(q4_0, ramp)), ramp);
  // -127..127 in odd steps: Q8_0 with scale 1.
  std::vector<float> wide(32);
  for (int i = 0; i < 32; ++i) wide[i] = static_cast<float>(i * 254 / 31 - 127);
  const Codec& q8_0 = *find_codec("Q8_0");
  EXPECT_EQ(decode(q8_0, encode(q8_0, wide)), wide);
  // 0..15 above an offset that a half holds.
  std::vector<float> above(32);
  for (int i = 0; i < 32; ++i) above[i] = 100.0f + 0.25f * static_cast<float>(i % 16);
  const Codec& q4_1 = *find_codec("Q4_1");
  EXPECT_EQ(decode(q4_1, encode(q4_1, above)), above);
}

TEST(Half, EveryPatternDecodesToItsDefinition) {
  const Codec& f16 = *find_codec("F16");
  for (uint32_t h = 0; h < 0x10000; ++h) {
    const std::vector<uint8_t> bytes{static_cast<uint8_t>(h), static_cast<uint8_t>(h >> 8)};
    const float v = decode(f16, bytes)[0];
    EXPECT_EQ(std::bit_cast<uint32_t>(v),
              std::bit_cast<uint32_t>(f16_to_f32(static_cast<uint16_t>(h))));
    const int exponent = static_cast<int>(h >> 10 & 31);
    const double mantissa = static_cast<double>(h & 1023);
    if (exponent == 31) {
      ASSERT_TRUE((h & 1023) ? std::isnan(v) : std::isinf(v));
    } else {
      const double magnitude =
          exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
      ASSERT_EQ(v, h & 0x8000 ? -magnitude : magnitude);
      ASSERT_EQ(f32_to_f16(v), h);
    }
  }
}

TEST(Half, RoundsHalfToEven) {
  EXPECT_EQ(f32_to_f16(1 + 0x1p-11f), 0x3c00);      // a tie: down to even
  EXPECT_EQ(f32_to_f16(1 + 3 * 0x1p-11f), 0x3c02);  // a tie: up to even
  EXPECT_EQ(f32_to_f16(1 + 0x1p-11f + 0x1p-23f), 0x3c01);
  EXPECT_EQ(f32_to_f16(65519.996f), 0x7bff);  // below the tie with 2^16
  EXPECT_EQ(f32_to_f16(65520.0f), 0x7c00);    // the tie: to infinity
  EXPECT_EQ(f32_to_f16(0x1p-25f), 0x0000);    // half of the smallest: to even, 0
  EXPECT_EQ(f32_to_f16(0x1.8p-25f), 0x0001);
}

TEST(Bf16, RoundsHalfToEvenAndKeepsNan) {
  const Codec& bf16 = *find_codec("BF16");
  const auto stored = [&](float v) {
    const std::vector<uint8_t> b = encode(bf16, {v});
    return b[0] | b[1] << 8;
  };
  EXPECT_EQ(stored(1.0f), 0x3f80);
  EXPECT_EQ(stored(1 + 0x1p-8f), 0x3f80);      // a tie: down to even
  EXPECT_EQ(stored(1 + 3 * 0x1p-8f), 0x3f82);  // a tie: up to even
  EXPECT_EQ(stored(-std::numeric_limits<float>::infinity()), 0xff80);
  EXPECT_EQ(stored(std::numeric_limits<float>::max()), 0x7f80);  // nearest is infinity
  // A NaN whose upper half alone would read as infinity.
  EXPECT_TRUE(std::isnan(decode(bf16, encode(bf16, {std::bit_cast<float>(0x7f800001u)}))[0]));
}

}  // namespace
}  // namespace venturi
