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

TEST_F(GgufTest, AFileCutAfterOpeningIsAnErrorOfReading) {
  const std::string path = folder_.write("cut.gguf", small_model().bytes);
  auto model = open_gguf(path);
  ASSERT_TRUE(model.ok());
  const TensorInfo* b = (*model)->find("b");
  std::filesystem::resize_file(path, std::filesystem::file_size(path) - 4);
  float row[3];
  const Status status = (*model)->read_row_f32(*b, 0, row);
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, Code::kIo);
  EXPECT_THAT(status.error().message, HasSubstr("truncated"));
}

// How readers of GGUF have been broken, or could be. Each is one field gone wrong in a file that is
// right otherwise; the message must name what is wrong.
struct BadFile {
  const char* name;
  GgufBuilder builder;
  const char* message;
};

// A header with no keys and one F32 tensor "t" of the given dimensions, with room for 64 bytes.
GgufBuilder one_tensor(const std::vector<uint64_t>& dims, uint32_t type = 0, uint64_t offset = 0) {
  return GgufBuilder().start(1, 0).tensor("t", dims, type, offset).pad().zeros(64);
}

GgufBuilder one_key(uint32_t type) { return GgufBuilder().start(0, 1).key("k", type); }

GgufBuilder aligned(uint32_t alignment) {
  return GgufBuilder()
      .start(1, 1)
      .key_u32("general.alignment", alignment)
      .tensor("t", {4}, 0, 0)
      .pad()
      .zeros(64);
}

GgufBuilder raw_start(std::string_view magic) {
  GgufBuilder b;
  b.bytes = magic;
  return b.raw<uint32_t>(3).raw<uint64_t>(0).raw<uint64_t>(0);
}

std::vector<BadFile> bad_files() {
  constexpr uint64_t kHuge = UINT64_MAX;
  return {
      {"empty", {}, "needs 4 bytes"},
      {"not GGUF", raw_start("GGML"), "expected the magic 'GGUF'"},
      {"reversed magic", raw_start("FUGG"), "big-endian"},
      {"big-endian version", GgufBuilder().start(0, 0, 0x03000000), "big-endian"},
      {"version 1", GgufBuilder().start(0, 0, 1), "version 1"},
      {"version 4", GgufBuilder().start(0, 0, 4), "version 4"},
      {"tensor count wraps", GgufBuilder().start(kHuge, 0), "tensor count at offset 8"},
      {"tensor count past the file", GgufBuilder().start(2, 0).tensor("t", {1}, 0, 0),
       "tensor count"},
      {"key count wraps", GgufBuilder().start(0, kHuge), "key count at offset 16"},
      {"key count past the file", GgufBuilder().start(0, 3).key_u32("k", 1).key_u32("l", 1),
       "key count"},
      {"key of huge length", GgufBuilder().start(0, 1).raw<uint64_t>(kHuge).zeros(64), "length"},
      {"key of length 0", GgufBuilder().start(0, 1).text("").raw<uint32_t>(4).zeros(8), "length"},
      {"key past the file", GgufBuilder().start(0, 1).raw<uint64_t>(5000).zeros(64), "are left"},
      {"duplicate key", GgufBuilder().start(0, 2).key_u32("k", 1).key_u32("k", 1),
       "'k' at offset 41 is there twice"},
      {"key of unknown type", one_key(13).zeros(8), "type of 0 to 12"},
      {"string of huge length", one_key(8).raw<uint64_t>(kHuge).zeros(8), "length"},
      {"string past the file", one_key(8).raw<uint64_t>(1 << 20).zeros(8), "are left"},
      {"string length wraps the offset", one_key(8).raw<uint64_t>(kHuge - 40).zeros(8), "length"},
      {"bool of 2", one_key(7).raw<uint8_t>(2), "0 or 1"},
      {"array of arrays",
       one_key(9).raw<uint32_t>(9).raw<uint64_t>(1).raw<uint32_t>(4).raw<uint64_t>(0),
       "array of arrays"},
      {"array of unknown type", one_key(9).raw<uint32_t>(99).raw<uint64_t>(0), "element type"},
      {"array count wraps", one_key(9).raw<uint32_t>(10).raw<uint64_t>(1ull << 61).zeros(64),
       "array of"},
      {"array count past the file", one_key(9).raw<uint32_t>(0).raw<uint64_t>(1000).zeros(64),
       "array of 1000"},
      {"string array count past the file", one_key(9).raw<uint32_t>(8).raw<uint64_t>(9).zeros(64),
       "array of 9"},
      {"string in array past the file",
       one_key(9).raw<uint32_t>(8).raw<uint64_t>(1).raw<uint64_t>(9).zeros(8), "are left"},
      {"bool array with a 7",
       one_key(9).raw<uint32_t>(7).raw<uint64_t>(2).raw<uint8_t>(1).raw<uint8_t>(7), "0 or 1"},
      {"alignment 0", aligned(0), "power of two"},
      {"alignment 48", aligned(48), "power of two"},
      {"alignment 2^31", aligned(1u << 31), "power of two"},
      {"alignment a string", GgufBuilder().start(0, 1).key_string("general.alignment", "32"),
       "expected an integer"},
      {"duplicate tensor",
       GgufBuilder().start(2, 0).tensor("t", {4}, 0, 0).tensor("t", {4}, 0, 32).pad().zeros(64),
       "twice"},
      {"tensor name too long",
       GgufBuilder().start(1, 0).tensor(std::string(128, 'n'), {4}, 0, 0).pad().zeros(64),
       "length"},
      {"tensor name empty", GgufBuilder().start(1, 0).tensor("", {4}, 0, 0).pad().zeros(64),
       "length"},
      {"no dimensions", one_tensor({}), "1 to 4 dimensions"},
      {"five dimensions", one_tensor({1, 1, 1, 1, 1}), "1 to 4 dimensions"},
      {"2^32-1 dimensions", GgufBuilder().start(1, 0).text("t").raw<uint32_t>(UINT32_MAX).zeros(64),
       "1 to 4 dimensions"},
      {"dimension 0", one_tensor({4, 0}), "dimension 1"},
      {"dimension negative", one_tensor({kHuge}), "dimension 0"},
      {"element count wraps to 4", one_tensor({1ull << 62, 4, 1, 4}), "dimension 0"},
      {"element count wraps to 0", one_tensor({1ull << 32, 1ull << 32}), "dimension"},
      {"bytes wrap to 0", one_tensor({1ull << 62}), "dimension 0"},
      {"type never heard of", one_tensor({4}, 1000), "type 1000 (not a GGML type)"},
      {"type given up", one_tensor({4}, 4), "type 4 (Q4_2)"},
      {"offset past the file", one_tensor({4}, 0, 1 << 20), "past the file"},
      {"offset wraps", one_tensor({4}, 0, kHuge - 31), "past the file"},
      {"end past the file", one_tensor({17}), "past the file"},
      {"offset unaligned", one_tensor({4}, 0, 16), "aligned to 32"},
      {"overlap",
       GgufBuilder().start(2, 0).tensor("t", {9}, 0, 0).tensor("u", {1}, 0, 32).pad().zeros(64),
       "overlaps"},
      {"same place",
       GgufBuilder().start(2, 0).tensor("t", {1}, 0, 0).tensor("u", {1}, 0, 0).pad().zeros(64),
       "overlaps"},
      {"split count huge", GgufBuilder().start(0, 1).key("split.count", 10).raw(kHuge),
       "split.count"},
      {"split without a part name", GgufBuilder().start(0, 1).key_u32("split.count", 2),
       "-00001-of-00002.gguf"},
  };
}

TEST_F(GgufTest, BadFilesAreNamedErrors) {
  for (const BadFile& bad : bad_files()) {
    const auto model = open(bad.builder);
    ASSERT_FALSE(model.ok()) << bad.name;
    EXPECT_THAT(model.error().message, AllOf(HasSubstr("model.gguf"), HasSubstr(bad.message)))
        << bad.name;
    EXPECT_LT(model.error().message.size(), 600u) << bad.name;
  }
}

// What the cases above are one step away from.
TEST_F(GgufTest, TheRightFilesBesideTheBadOnes) {
  for (const GgufBuilder& builder :
       {one_tensor({4}), one_tensor({4, 1, 1, 1}), one_tensor({16}), one_tensor({4}, 0, 32),
        aligned(1), aligned(64), GgufBuilder().start(0, 0), GgufBuilder().start(0, 0, 2),
        one_key(7).raw<uint8_t>(1),
        GgufBuilder().start(2, 0).tensor("t", {8}, 0, 32).tensor("u", {8}, 0, 0).pad().zeros(64)}) {
    const auto model = open(builder);
    EXPECT_TRUE(model.ok()) << model.error().message;
  }
}

TEST_F(GgufTest, MessagesEscapeWhatTheFileSays) {
  const auto model =
      open(GgufBuilder().start(1, 0).tensor("\x1b[2J\n", {4}, 999, 0).pad().zeros(64));
  ASSERT_FALSE(model.ok());
  EXPECT_THAT(model.error().message, HasSubstr("\\x1b[2J\\x0a"));
}

// The alignment is unpadded at the end of file when there are no tensors, as vocabulary files are.
TEST_F(GgufTest, PaddingMayBeAbsentWithoutTensors) {
  EXPECT_TRUE(open(GgufBuilder().start(0, 1).key_u32("k", 1)).ok());
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
