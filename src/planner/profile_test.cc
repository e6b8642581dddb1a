// A profile survives its file, and a broken one says what is wrong with it.
#include "planner/profile.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "base/file.h"

namespace venturi {
namespace {

MachineProfile example() {
  return {.taken = 1700000000,
          .threads = 2,
          .instruction_set = "avx2",
          .read_bytes_per_second = {20e9, 18e9, 21e9},
          .int8_macs_per_second = {300e9, 290e9, 310e9},
          .f32_macs_per_second = {80e9, 79e9, 81e9},
          .region_seconds = 2e-6,
          .memory = {{1, {12e9, 11e9, 13e9}}},
          .kernels = {{"Q4_0", true, 1, {30e9, 29e9, 31e9}}, {"Q4_0", true, 65, {3e9, 3e9, 3e9}},
                      {"Q4_0", false, 1, {10e9, 9e9, 11e9}}},
          .disk = {"file", "threads", {{true, true, 1 << 20, 16, {2e9, 1.9e9, 2.1e9}},
                                       {true, true, 1 << 20, 1, {1e9, 0.9e9, 1.1e9}},
                                       {false, true, 1 << 16, 16, {0.5e9, 0.4e9, 0.6e9}},
                                       {true, false, 1 << 20, 16, {9e9, 1e9, 10e9}}}}};
}

TEST(Profile, ComesBackFromItsFile) {
  const auto folder = std::filesystem::temp_directory_path() / "venturi_profile_test";
  const std::string path = (folder / "deep" / "profile.json").string();
  ASSERT_TRUE(write_profile(path, example()));
  const auto back = read_profile(path);
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(profile_json(*back), profile_json(example()));
  std::filesystem::remove_all(folder);
}

TEST(Profile, RatesBetweenThePointsAreLinearInTime) {
  const MachineProfile p = example();
  EXPECT_DOUBLE_EQ(p.weights_per_second("Q4_0", 4.5, true, true, 1), 30e9);
  EXPECT_DOUBLE_EQ(p.weights_per_second("Q4_0", 4.5, true, true, 65), 3e9);
  // Half way in rows is half way in seconds.
  EXPECT_NEAR(p.weights_per_second("Q4_0", 4.5, true, true, 33), 1 / ((1 / 30e9 + 1 / 3e9) / 2), 1);
  EXPECT_NEAR(p.weights_per_second("Q4_0", 4.5, true, true, 130), 1.5e9, 1);
  EXPECT_DOUBLE_EQ(p.weights_per_second("Q4_0", 4.5, true, false, 1), 10e9);
  // Only the bounds are known of others: bytes, and from some rows on multiply-adds.
  EXPECT_NEAR(p.weights_per_second("F16", 16, false, true, 1), 0.7 * 10e9, 1);
  EXPECT_NEAR(p.weights_per_second("F16", 16, false, true, 80), 0.7 * 1e9, 1);
}

TEST(Profile, TheDiskRateIsOfTheNearestDirectPattern) {
  const MachineProfile p = example();
  EXPECT_EQ(p.disk_bytes_per_second(1 << 20, 16), 2e9);
  EXPECT_EQ(p.disk_bytes_per_second(1 << 19, 12), 2e9);
  EXPECT_EQ(p.disk_bytes_per_second(1 << 20, 2), 1e9);
  EXPECT_EQ(MachineProfile().disk_bytes_per_second(1 << 20, 16), 0);
  // A window that holds no more than a request: as fast as one at a time, and less than that in proportion.
  EXPECT_EQ(p.disk_bytes_per_second(1 << 20, 16, 64 << 20), 2e9);
  EXPECT_EQ(p.disk_bytes_per_second(1 << 20, 16, 1 << 20), 1e9);
  EXPECT_NEAR(p.disk_bytes_per_second(1 << 20, 16, 4 << 20), 1.5e9, 1);
  EXPECT_NEAR(p.disk_bytes_per_second(1 << 20, 16, 1 << 19), 0.5e9, 1);
}

TEST(Profile, NoiseIsTheLargestSpreadAndOfWhat) {
  std::string of;
  EXPECT_DOUBLE_EQ(example().noise(&of), 1.0);
  EXPECT_EQ(of, "sequential buffered disk reads, 16 deep");
}

// The field, what was expected and what was found.
void refuses(const Json& json, const char* part) {
  const auto read = parse_profile(json.dump(), "p.json");
  ASSERT_FALSE(read) << part;
  EXPECT_NE(read.error().message.find(part), std::string::npos) << read.error().message;
  EXPECT_EQ(read.error().message.substr(0, 7), "p.json:");
}

TEST(Profile, WhatIsWrongIsNamed) {
  const Json good = profile_json(example());
  ASSERT_TRUE(parse_profile(good.dump(), "p.json"));
  const auto with = [&](const char* name, Json value) {
    Json json = good;
    json[name] = std::move(value);
    return json;
  };
  refuses(with("version", 2), "\"version\" is 2, this program reads 1");
  refuses(with("format", "venturi plan"), "\"format\" is \"venturi plan\"");
  refuses(with("threads", 0), "\"threads\" is 0, expected a whole number from 1");
  refuses(with("threads", 2.5), "\"threads\" is 2.5");
  refuses(with("threads", 18446744073709551615u), "\"threads\"");
  refuses(with("int8_macs_per_second", {{"median", 1}, {"low", 2}, {"high", 3}}), "\"int8_macs_per_second.median\" is 1");
  refuses(with("read_bytes_per_second", {{"median", 0}, {"low", 0}, {"high", 0}}), "\"read_bytes_per_second.median\" is 0");
  refuses(with("kernels", {{{"codec", 7}}}), "\"kernels[0].codec\" is 7, expected a string");
  refuses(with("kernels", {7}), "\"kernels[0]\" is not an object");
  refuses(with("disk", Json::array()), "\"disk\" is [], expected an object");
  Json json = good;
  json.erase("region_seconds");
  refuses(json, "there is no \"region_seconds\"");
  refuses(Json::array(), "not an object");
  for (const char* text : {"", "{", "null", "\"x\"", "{\"format\":"}) EXPECT_FALSE(parse_profile(text, "p.json")) << text;
  EXPECT_FALSE(parse_profile(std::string(100000, '['), "p.json"));
}

}  // namespace
}  // namespace venturi
