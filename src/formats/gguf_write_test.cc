#include "formats/gguf_write.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "formats/gguf.h"
#include "formats/test_files.h"

namespace venturi {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

Metadata sample_metadata() {
  Metadata metadata;
  metadata.set_string("general.architecture", "llama");
  metadata.set("u8", {MetaType::kU8, uint64_t{200}});
  metadata.set("i8", {MetaType::kI8, int64_t{-3}});
  metadata.set("i16", {MetaType::kI16, int64_t{-300}});
  metadata.set_uint("big", 1ull << 40);
  metadata.set_int("negative", -5);
  metadata.set_float("f32", 1e-5f);
  metadata.set("f64", {MetaType::kF64, 0.1});
  metadata.set_bool("yes", true);
  metadata.set_strings("strings", {"a", "", "\xe2\x96\x81z"});
  metadata.set_ints("ints", {1, -2, 3});
  metadata.set_floats("floats", {0.5f, -0.25f});
  metadata.set_uint("general.alignment", 4096);  // the source's layout: not the copy's
  return metadata;
}

// Value j of tensor i is 100 i + j.
Status sample_source(const std::vector<GgufTensor>& tensors, size_t i, const ByteSink& sink) {
  const uint64_t n = tensors[i].bytes() / 4;
  for (uint64_t j = 0; j < n; ++j) {
    const float value = 100.f * static_cast<float>(i) + static_cast<float>(j);
    TRY(sink({reinterpret_cast<const uint8_t*>(&value), 4}));
  }
  return {};
}

const std::vector<GgufTensor> kTensors = {{"a", find_codec("F32"), {3, 2}},
                                          {"b", find_codec("F32"), {5}},
                                          {"c", find_codec("F32"), {2, 2, 2}}};

void expect_sample(const ModelFile& model) {
  const Metadata expected = sample_metadata();
  for (const auto& [key, value] : expected.entries()) {
    const MetaValue* found = model.metadata.find(key);
    if (key == "general.alignment") {
      EXPECT_EQ(found, nullptr);
      continue;
    }
    ASSERT_NE(found, nullptr) << key;
    EXPECT_EQ(found->type, value.type) << key;
    if (const auto* array = std::get_if<MetaArray>(&value.value)) {
      EXPECT_EQ(array->bytes, std::get<MetaArray>(found->value).bytes) << key;
    } else {
      EXPECT_EQ(found->value.index(), value.value.index()) << key;
    }
  }
  EXPECT_EQ(*model.metadata.get_uint("big"), 1ull << 40);
  EXPECT_EQ(*model.metadata.get_int("i16"), -300);
  EXPECT_EQ(*model.metadata.get_float("f64"), 0.1);
  EXPECT_TRUE(*model.metadata.get_bool("yes"));
  EXPECT_THAT(*model.metadata.get_ints("ints"), ElementsAre(1, -2, 3));
  ASSERT_EQ(model.tensors.size(), 3u);
  float row[3];
  ASSERT_TRUE(model.read_row_f32(*model.find("a"), 1, row).ok());
  EXPECT_THAT(row, ElementsAre(3, 4, 5));
  float c[2];
  ASSERT_TRUE(model.read_row_f32(*model.find("c"), 3, c).ok());
  EXPECT_THAT(c, ElementsAre(206, 207));
}

TEST(GgufWrite, RoundTrip) {
  TemporaryFolder folder;
  const std::string path = folder.path + "/m.gguf";
  auto written = write_gguf(path, sample_metadata(), kTensors, [](size_t i, const ByteSink& sink) {
    return sample_source(kTensors, i, sink);
  });
  ASSERT_TRUE(written.ok()) << written.error().message;
  auto model = open_gguf(path);
  ASSERT_TRUE(model.ok()) << model.error().message;
  expect_sample(**model);
}

TEST(GgufWrite, PartsOpenFromAnyOfThem) {
  TemporaryFolder folder;
  auto written =
      write_gguf(folder.path + "/m.gguf", sample_metadata(), kTensors,
                 [](size_t i, const ByteSink& sink) { return sample_source(kTensors, i, sink); },
                 {.part_bytes = 30});
  ASSERT_TRUE(written.ok()) << written.error().message;
  ASSERT_EQ(written->size(), 3u);
  EXPECT_THAT((*written)[1], HasSubstr("m-00002-of-00003.gguf"));
  for (const std::string& part : *written) {
    auto model = open_gguf(part);
    ASSERT_TRUE(model.ok()) << model.error().message;
    expect_sample(**model);
  }

  // A part that is missing, or another model's under its name, is named.
  std::filesystem::rename((*written)[1], folder.path + "/away");
  auto missing = open_gguf((*written)[2]);
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.error().code, Code::kNotFound);
  EXPECT_THAT(missing.error().message, HasSubstr("m-00002-of-00003.gguf"));
  std::filesystem::copy_file((*written)[2], (*written)[1]);
  auto wrong = open_gguf((*written)[0]);
  ASSERT_FALSE(wrong.ok());
  EXPECT_THAT(wrong.error().message, HasSubstr("split.no"));
  // Renamed so that the others cannot be found.
  std::filesystem::rename((*written)[0], folder.path + "/other.gguf");
  EXPECT_THAT(open_gguf(folder.path + "/other.gguf").error().message,
              HasSubstr("-00001-of-00003.gguf"));
}

TEST(GgufWrite, ASourceThatFailsOrComesShortLeavesNoFile) {
  TemporaryFolder folder;
  const std::string path = folder.path + "/m.gguf";
  EXPECT_FALSE(
      write_gguf(path, {}, kTensors, [](size_t, const ByteSink&) { return Status(); }).ok());
  EXPECT_FALSE(write_gguf(path, {}, kTensors, [](size_t, const ByteSink&) -> Status {
                 return error(Code::kIo, "the disk is gone");
               }).ok());
  EXPECT_TRUE(std::filesystem::is_empty(folder.path));
  const std::vector<GgufTensor> twice = {kTensors[0], kTensors[0]};
  EXPECT_FALSE(write_gguf(path, {}, twice, [](size_t, const ByteSink&) { return Status(); }).ok());
}

}  // namespace
}  // namespace venturi
