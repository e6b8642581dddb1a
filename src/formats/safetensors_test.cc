#include "formats/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "formats/test_files.h"

namespace venturi {
namespace {

using ::testing::HasSubstr;

std::string safetensors(std::string_view header, size_t data_bytes) {
  GgufBuilder b;
  b.text(header).zeros(data_bytes);
  return b.bytes;
}

Result<SafetensorsHeader> parse(const TemporaryFolder& folder, const std::string& bytes) {
  File file = TRY(File::open(folder.write("x.safetensors", bytes)));
  return read_safetensors_header(file);
}

TEST(Safetensors, ReadsTensorsAndMetadata) {
  TemporaryFolder folder;
  const auto header = parse(folder, safetensors(R"({"__metadata__":{"format":"pt"},
      "b":{"shape":[2,3],"dtype":"F16","data_offsets":[4,16]},
      "a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}  )",
                                                16));
  ASSERT_TRUE(header.ok()) << header.error().message;
  ASSERT_EQ(header->tensors.size(), 2u);
  EXPECT_EQ(header->tensors[0].name, "a");
  EXPECT_EQ(header->tensors[1].bytes, 12u);
  EXPECT_EQ(header->tensors[1].offset - header->tensors[0].offset, 4u);
  EXPECT_EQ(header->metadata[0].second, "pt");
}

TEST(Safetensors, BadFilesAreNamedErrors) {
  TemporaryFolder folder;
  struct Bad {
    std::string bytes;
    const char* message;
  };
  const auto tensor = [](std::string_view fields, size_t data = 4) {
    return safetensors("{\"t\":{" + std::string(fields) + "}}", data);
  };
  const std::string good = R"("dtype":"F32","shape":[1],"data_offsets":[0,4])";
  ASSERT_TRUE(parse(folder, tensor(good)).ok());
  GgufBuilder huge;
  huge.raw<uint64_t>(UINT64_MAX).zeros(64);
  GgufBuilder above;
  above.raw<uint64_t>(100'000'001).zeros(64);
  const Bad cases[] = {
      {"", "header length"},
      {huge.bytes, "header length"},
      {above.bytes, "header length"},
      {safetensors("{}", 0).substr(0, 9), "header length"},
      {safetensors("[]", 0), "an array where none belongs"},
      {safetensors("{\"t\":1}", 0), "a number where none belongs"},
      {safetensors("{\"t\":{}}", 0), "lacks"},
      {safetensors("{} {}", 0), "not valid JSON"},
      {safetensors("{\"\xff\":{}}", 0), "not valid JSON"},
      {safetensors(std::string(100000, '['), 0), "an array where none belongs"},
      {safetensors("{\"t\":{" + good + "},\"t\":{" + good + "}}", 4), "'t' is there twice"},
      {safetensors("{\"t\":{" + good + "},\"u\":{" + good + "}}", 4), "overlaps"},
      {safetensors("{\"__metadata__\":{\"a\":1}}", 0), "a number where none belongs"},
      {safetensors("{\"__metadata__\":{\"a\":{}}}", 0), "an object where none belongs"},
      {safetensors("{\"__metadata__\":{\"a\":\"b\",\"a\":\"c\"}}", 0), "'a' is there twice"},
      {tensor(good + ",\"dtype\":\"F16\""), "two fields 'dtype'"},
      {tensor(good + ",\"more\":1"), "unknown field 'more'"},
      {tensor(R"("dtype":"Q9","shape":[1],"data_offsets":[0,4])"), "unknown dtype 'Q9'"},
      {tensor(R"("dtype":"F32","shape":[2],"data_offsets":[0,4])"), "a range of 8 bytes"},
      {tensor(R"("dtype":"F32","shape":[-1],"data_offsets":[0,4])"), "a negative number"},
      {tensor(R"("dtype":"F32","shape":[1.0],"data_offsets":[0,4])"), "a fraction"},
      {tensor(R"("dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0])"),
       "passes 2^64"},
      {tensor(R"("dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,0])"),
       "passes 2^64"},
      {tensor(R"("dtype":"U8","shape":[1,1,1,1,1,1,1,1,4],"data_offsets":[0,4])"),
       "up to 8 dimensions"},
      {tensor(R"("dtype":"F32","shape":[1],"data_offsets":[4,0])"), "a range of 4 bytes"},
      {tensor(R"("dtype":"F32","shape":[1],"data_offsets":[0])"), "needs two numbers"},
      {tensor(R"("dtype":"F32","shape":[1],"data_offsets":[0,4,8])"),
       "a number where none belongs"},
      {tensor(R"("dtype":"F32","shape":[1],"data_offsets":[4,8])", 8), "a hole"},
      {tensor(good, 8), "belongs to no tensor"},
      {tensor(good, 3), "truncated"},
  };
  for (const Bad& bad : cases) {
    const auto header = parse(folder, bad.bytes);
    ASSERT_FALSE(header.ok()) << bad.message;
    EXPECT_THAT(header.error().message, HasSubstr(bad.message));
    EXPECT_THAT(header.error().message, HasSubstr("x.safetensors"));
  }
}

TEST(Safetensors, WritesWhatItReads) {
  TemporaryFolder folder;
  const std::string path = folder.path + "/out.safetensors";
  const std::vector<SafeTensor> tensors = {{.name = "b", .dtype = "F16", .shape = {3, 2}},
                                           {.name = "a", .dtype = "I64", .shape = {}},
                                           {.name = "none", .dtype = "F32", .shape = {0, 4}}};
  auto written =
      write_safetensors(path, tensors, {{"format", "pt"}}, [&](size_t i, const auto& sink) {
        const std::vector<uint8_t> bytes(i == 0 ? 12 : i == 1 ? 8 : 0, static_cast<uint8_t>(i + 1));
        return sink(bytes);
      });
  ASSERT_TRUE(written.ok()) << written.error().message;
  ASSERT_FALSE(File::open(path).ok());
  ASSERT_TRUE(written->commit().ok());
  auto opened = File::open(path);
  ASSERT_TRUE(opened.ok());
  const File& file = *opened;
  const auto header = read_safetensors_header(file);
  ASSERT_TRUE(header.ok()) << header.error().message;
  ASSERT_EQ(header->tensors.size(), 3u);
  EXPECT_EQ(header->tensors[0].offset % 8, 0u);
  uint8_t value[8];
  ASSERT_TRUE(file.read_exact(header->tensors[1].name == "a" ? header->tensors[1].offset
                                                             : header->tensors[2].offset,
                              value)
                  .ok());
  EXPECT_EQ(value[7], 2);
}

TEST(Safetensors, ShardsMustHoldWhatTheIndexSays) {
  TemporaryFolder folder;
  const auto one = [](std::string_view name) {
    return safetensors(
        "{\"" + std::string(name) + R"(":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4);
  };
  const auto index = [&](std::string_view map) {
    folder.write("model.safetensors.index.json", "{\"weight_map\":" + std::string(map) + "}");
    return open_safetensors_folder(folder.path);
  };
  folder.write("m-1.safetensors", one("a"));
  folder.write("m-2.safetensors", one("b"));
  const auto model = index(R"({"a":"m-1.safetensors","b":"m-2.safetensors"})");
  ASSERT_TRUE(model.ok()) << model.error().message;
  EXPECT_EQ(model->files.size(), 2u);
  EXPECT_THAT(index(R"({"a":"m-1.safetensors","b":"m-3.safetensors"})").error().message,
              HasSubstr("m-3.safetensors is missing"));
  EXPECT_THAT(index(R"({"a":"m-2.safetensors","b":"m-1.safetensors"})").error().message,
              HasSubstr("the index does not say"));
  EXPECT_THAT(index(R"({"a":"m-1.safetensors"})").ok(), true);
  EXPECT_THAT(index(R"({"a":"m-1.safetensors","c":"m-1.safetensors"})").error().message,
              HasSubstr("'c' is not in m-1.safetensors"));
  EXPECT_THAT(index(R"({"a":"../m-1.safetensors"})").error().message, HasSubstr("same folder"));
  EXPECT_THAT(index(R"({"a":7})").error().message, HasSubstr("expected a file name"));
  EXPECT_THAT(index("[]").error().message, HasSubstr("weight_map"));
  EXPECT_THAT(index("{").error().message, HasSubstr("not valid JSON"));
}

}  // namespace
}  // namespace venturi
