#include "formats/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "formats/test_files.h"

namespace venturi {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

const std::string kShared = VENTURI_SHARED_DIR;

class GgufTest : public ::testing::Test {
 protected:
  Result<std::unique_ptr<ModelFile>> open(const GgufBuilder& builder) {
    return open_gguf(folder_.write("model.gguf", builder.bytes));
  }
  TemporaryFolder folder_;
};

// Two tensors: "a" {4, 2} F32 with 0..7 at data offset 0, "b" {3} F16 at 32.
GgufBuilder small_model() {
  GgufBuilder b;
  b.start(2, 3).key_string("general.architecture", "llama").key_u32("llama.block_count", 7);
  b.key("list", 9).raw<uint32_t>(8).raw<uint64_t>(3).text("x").text("").text("yz");
  b.tensor("a", {4, 2}, 0, 0).tensor("b", {3}, 1, 32).pad();
  for (int i = 0; i < 8; ++i) b.raw(static_cast<float>(i));
  return b.raw(f32_to_f16(1.5f)).raw(f32_to_f16(-2.f)).raw(f32_to_f16(0.f));
}

TEST_F(GgufTest, ReadsMetadataAndTensors) {
  auto model = open(small_model());
  ASSERT_TRUE(model.ok()) << model.error().message;
  const Metadata& metadata = (*model)->metadata;
  EXPECT_EQ(*metadata.get_string("general.architecture"), "llama");
  EXPECT_EQ(*metadata.get_uint("llama.block_count"), 7u);
  EXPECT_EQ(*metadata.get_float("llama.block_count"), 7.0);
  EXPECT_THAT(*metadata.get_strings("list"), ::testing::ElementsAre("x", "", "yz"));
  EXPECT_EQ(metadata.get_string("llama.block_count").error().code, Code::kCorrupt);
  EXPECT_EQ(metadata.get_uint("absent").error().code, Code::kNotFound);
  EXPECT_EQ(*metadata.uint_or("absent", 5), 5u);
  EXPECT_FALSE(metadata.uint_or("general.architecture", 5).ok());

  const TensorInfo* a = (*model)->find("a");
  ASSERT_NE(a, nullptr);
  EXPECT_EQ((*model)->find("c"), nullptr);
  EXPECT_EQ(a->n_rows(), 2);
  EXPECT_EQ(a->bytes(), 32u);
  float row[4];
  ASSERT_TRUE((*model)->read_row_f32(*a, 1, row).ok());
  EXPECT_THAT(row, ::testing::ElementsAre(4, 5, 6, 7));
  EXPECT_EQ((*model)->read_row_f32(*a, 2, row).error().code, Code::kInvalidArgument);
  float b[3];
  ASSERT_TRUE((*model)->read_row_f32(*(*model)->find("b"), 0, b).ok());
  EXPECT_THAT(b, ::testing::ElementsAre(1.5f, -2.f, 0.f));
}

TEST_F(GgufTest, EveryTruncationIsAnError) {
  const std::string whole = small_model().bytes;
  for (size_t n = 0; n < whole.size(); ++n) {
    const auto model = open_gguf(folder_.write("cut.gguf", whole.substr(0, n)));
    ASSERT_FALSE(model.ok()) << n;
  }
}

TEST_F(GgufTest, SharedModelOpens) {
  const std::string path = kShared + "/data/tiny-llama/tiny-llama-f16.gguf";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is absent";
  auto model = open_model(path);
  ASSERT_TRUE(model.ok()) << model.error().message;
  EXPECT_EQ(*(*model)->metadata.get_uint("llama.embedding_length"), 192u);
  const TensorInfo* embedding = (*model)->find("token_embd.weight");
  ASSERT_NE(embedding, nullptr);
  EXPECT_EQ(embedding->n_rows(), 4096);
}

TEST_F(GgufTest, SharedVocabulariesOpen) {
  const std::string folder = kShared + "/data/vocab";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << folder << " is absent";
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ".gguf") continue;
    auto model = open_model(entry.path());
    ASSERT_TRUE(model.ok()) << model.error().message;
    EXPECT_TRUE((*model)->tensors.empty());
    auto tokens = (*model)->metadata.get_strings("tokenizer.ggml.tokens");
    ASSERT_TRUE(tokens.ok()) << entry.path();
    EXPECT_GT(tokens->size(), 10000u);
  }
}

}  // namespace
}  // namespace venturi
