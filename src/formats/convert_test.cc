#include "formats/convert.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>

#include "formats/convert_types.h"
#include "formats/gguf_write.h"
#include "formats/test_files.h"

namespace venturi {
namespace {

using ::testing::HasSubstr;

const std::string kTiny = std::string(VENTURI_SHARED_DIR) + "/data/tiny-llama";

void expect_same_tensors(const ModelFile& a, const ModelFile& b) {
  ASSERT_EQ(a.tensors.size(), b.tensors.size());
  for (const TensorInfo& expected : a.tensors) {
    const TensorInfo* found = b.find(expected.name);
    ASSERT_NE(found, nullptr) << expected.name;
    ASSERT_EQ(found->dims, expected.dims) << expected.name;
    ASSERT_EQ(found->codec, expected.codec) << expected.name;
    std::vector<uint8_t> x(expected.bytes()), y(expected.bytes());
    ASSERT_TRUE(a.read(expected, 0, x).ok());
    ASSERT_TRUE(b.read(*found, 0, y).ok());
    EXPECT_EQ(x, y) << expected.name;
  }
}

// The shared GGUF was made of the shared directory by other hands: converting gives it, byte for
// byte of every tensor, with any number of threads.
TEST(Convert, SharedDirectoryBecomesTheSharedGguf) {
  if (!std::filesystem::exists(kTiny)) GTEST_SKIP() << kTiny << " is absent";
  TemporaryFolder folder;
  auto hf = open_model(kTiny + "/hf");
  auto expected = open_model(kTiny + "/tiny-llama-f16.gguf");
  ASSERT_TRUE(hf.ok() && expected.ok());
  for (const int threads : {1, 3}) {
    ThreadPool pool(threads);
    uint64_t last = 0;
    ConvertOptions options;
    options.progress = [&](const ConvertProgress& progress) {
      EXPECT_GT(progress.bytes_done, last);
      last = progress.bytes_done;
      return true;
    };
    const auto report = convert_to_gguf(**hf, folder.path + "/out.gguf", options, pool);
    ASSERT_TRUE(report.ok()) << report.error().message;
    EXPECT_EQ(last, report->bytes);
    EXPECT_TRUE(report->warnings.empty());
    auto made = open_model(folder.path + "/out.gguf");
    ASSERT_TRUE(made.ok()) << made.error().message;
    expect_same_tensors(**expected, **made);
    EXPECT_EQ(*(*made)->metadata.get_uint("general.file_type"), 1u);
  }
}

TEST(Convert, ThereAndBackAgain) {
  if (!std::filesystem::exists(kTiny)) GTEST_SKIP() << kTiny << " is absent";
  TemporaryFolder folder;
  ThreadPool pool(2);
  auto gguf = open_model(kTiny + "/tiny-llama-f16.gguf");
  ASSERT_TRUE(gguf.ok());
  const auto report = convert_to_hf(**gguf, folder.path + "/hf", {}, pool);
  ASSERT_TRUE(report.ok()) << report.error().message;
  auto hf = open_model(folder.path + "/hf");
  ASSERT_TRUE(hf.ok()) << hf.error().message;
  ASSERT_TRUE(convert_to_gguf(**hf, folder.path + "/back.gguf", {}, pool).ok());
  auto back = open_model(folder.path + "/back.gguf");
  ASSERT_TRUE(back.ok());
  expect_same_tensors(**gguf, **back);
  for (const auto& [key, value] : (*gguf)->metadata.entries()) {
    if (key == "general.name") continue;
    const MetaValue* found = (*back)->metadata.find(key);
    ASSERT_NE(found, nullptr) << key;
    EXPECT_TRUE(*found == value) << key;
  }
}

// A model in memory's place: a GGUF of F32 tensors, value i of each being i.
class Source {
 public:
  explicit Source(std::string_view arch) {
    metadata.set_string("general.architecture", std::string(arch));
  }
  Source& tensor(std::string name, std::vector<int64_t> dims) {
    tensors.push_back({std::move(name), find_codec("F32"), std::move(dims)});
    return *this;
  }
  std::unique_ptr<ModelFile> open(float first = 0) {
    auto written = write_gguf(
        folder.path + "/source.gguf", metadata, tensors, [&](size_t index, const ByteSink& sink) {
          std::vector<float> values(tensors[index].bytes() / 4);
          for (size_t i = 0; i < values.size(); ++i) values[i] = first + static_cast<float>(i);
          return sink({reinterpret_cast<const uint8_t*>(values.data()), values.size() * 4});
        });
    EXPECT_TRUE(written.ok());
    auto model = open_gguf(folder.path + "/source.gguf");
    EXPECT_TRUE(model.ok());
    return std::move(model).value();
  }
  TemporaryFolder folder;
  Metadata metadata;
  std::vector<GgufTensor> tensors;
};

TEST(Convert, SmallTensorsStayF32) {
  Source source("llama");
  auto model = source.tensor("token_embd.weight", {4, 2})
                   .tensor("blk.0.attn_norm.weight", {4})
                   .tensor("blk.0.ffn_gate_inp.weight", {4, 2})
                   .tensor("blk.0.attn_q.bias", {4})
                   .tensor("blk.0.attn_q.weight", {4, 2})
                   .tensor("blk.0.attn_q_norm.weight", {4, 2})
                   .open();
  ThreadPool pool(1);
  const auto report =
      convert_to_gguf(*model, source.folder.path + "/out.gguf", {.type = "F16"}, pool);
  ASSERT_TRUE(report.ok()) << report.error().message;
  EXPECT_EQ(report->by_type.at("F16").tensors, 2u);
  EXPECT_EQ(report->by_type.at("F32").tensors, 4u);
}

TEST(Convert, RefusesWhatNoTypeCanHold) {
  ThreadPool pool(2);
  Source source("llama");
  auto infinite = source.tensor("token_embd.weight", {4, 2}).open(INFINITY);
  const auto report =
      convert_to_gguf(*infinite, source.folder.path + "/out.gguf", {.type = "F16"}, pool);
  ASSERT_FALSE(report.ok());
  EXPECT_THAT(report.error().message, HasSubstr("'token_embd.weight' row 0 column 0"));
  EXPECT_FALSE(std::filesystem::exists(source.folder.path + "/out.gguf"));
  auto large = source.open(1e6f);
  const auto warned =
      convert_to_gguf(*large, source.folder.path + "/out.gguf", {.type = "F16"}, pool);
  ASSERT_TRUE(warned.ok());
  ASSERT_EQ(warned->warnings.size(), 1u);
  EXPECT_THAT(warned->warnings[0], HasSubstr("8 values are too large for F16"));
  EXPECT_THAT(
      convert_to_gguf(*large, source.folder.path + "/o", {.type = "Q9"}, pool).error().message,
      HasSubstr("'Q9'"));
  const ConvertOptions stop{.progress = [](const ConvertProgress&) { return false; }};
  EXPECT_EQ(convert_to_gguf(*large, source.folder.path + "/stopped.gguf", stop, pool).error().code,
            Code::kCancelled);
  EXPECT_FALSE(std::filesystem::exists(source.folder.path + "/stopped.gguf"));
  const ImportanceData wrong{{"token_embd.weight", {1, 2, 3}}};
  const ConvertOptions weighted{.importance = &wrong};
  EXPECT_THAT(
      convert_to_gguf(*large, source.folder.path + "/w.gguf", weighted, pool).error().message,
      HasSubstr("expected 4 values, found 3"));
}

TEST(Convert, ExpertsGoBackOneByOne) {
  Source source("llama");
  source.metadata.set_uint("llama.block_count", 1);
  source.metadata.set_uint("llama.attention.head_count", 2);
  source.metadata.set_uint("llama.attention.head_count_kv", 1);
  source.metadata.set_uint("llama.embedding_length", 8);
  source.metadata.set_uint("llama.expert_count", 2);
  source.metadata.set_uint("llama.expert_used_count", 1);
  source.metadata.set_string("llama.hidden_activation", "relu2");
  source.metadata.set_string("tokenizer.ggml.model", "llama");
  source.metadata.set_strings("tokenizer.ggml.tokens", {"<unk>", "a"});
  source.metadata.set_floats("tokenizer.ggml.scores", {0, -1});
  source.metadata.set_ints("tokenizer.ggml.token_type", {2, 1});
  auto model = source.tensor("token_embd.weight", {8, 2})
                   .tensor("blk.0.ffn_up_exps.weight", {8, 3, 2})
                   .tensor("blk.0.attn_q.weight", {8, 8})
                   .tensor("blk.0.attn_k.bias", {4})
                   .open();
  ThreadPool pool(2);
  const std::string out = source.folder.path + "/hf";
  const auto report = convert_to_hf(*model, out, {.type = "F32"}, pool);
  ASSERT_TRUE(report.ok()) << report.error().message;
  auto back = open_model(out);
  ASSERT_TRUE(back.ok()) << back.error().message;
  EXPECT_EQ(*(*back)->metadata.get_string("llama.hidden_activation"), "relu2");
  for (const char* name :
       {"blk.0.ffn_up_exps.weight", "blk.0.attn_q.weight", "blk.0.attn_k.bias"}) {
    const TensorInfo* a = model->find(name);
    const TensorInfo* b = (*back)->find(name);
    ASSERT_NE(b, nullptr) << name;
    std::vector<float> x(static_cast<size_t>(a->n_values())), y(x.size());
    ASSERT_TRUE(model->read_rows_f32(*a, 0, x).ok());
    ASSERT_TRUE((*back)->read_rows_f32(*b, 0, y).ok());
    EXPECT_EQ(x, y) << name;
  }
}

// Qwen 2 with a byte-level vocabulary: the pre-tokenizer is written out and known again.
TEST(Convert, Qwen2AndItsVocabularyComeBack) {
  Source source("qwen2");
  source.metadata.set_uint("qwen2.block_count", 1);
  source.metadata.set_uint("qwen2.attention.head_count", 2);
  source.metadata.set_uint("qwen2.embedding_length", 4);
  source.metadata.set_float("qwen2.attention.layer_norm_rms_epsilon", 1e-6f);
  source.metadata.set_string("tokenizer.ggml.model", "gpt2");
  source.metadata.set_string("tokenizer.ggml.pre", "qwen2");
  source.metadata.set_strings("tokenizer.ggml.tokens", {"a", "b", "ab", "<|end|>", "[PAD4]"});
  source.metadata.set_ints("tokenizer.ggml.token_type", {1, 1, 1, 3, 5});
  source.metadata.set_strings("tokenizer.ggml.merges", {"a b"});
  source.metadata.set_uint("tokenizer.ggml.eos_token_id", 3);
  source.metadata.set_string("tokenizer.chat_template", "{{ messages }}");
  auto model = source.tensor("token_embd.weight", {4, 5})
                   .tensor("output.weight", {4, 5})
                   .tensor("blk.0.attn_q.bias", {4})
                   .open();
  ThreadPool pool(2);
  const auto report = convert_to_hf(*model, source.folder.path + "/hf", {.type = "F32"}, pool);
  ASSERT_TRUE(report.ok()) << report.error().message;
  auto back = open_model(source.folder.path + "/hf");
  ASSERT_TRUE(back.ok()) << back.error().message;
  for (const char* key :
       {"tokenizer.ggml.tokens", "tokenizer.ggml.token_type", "tokenizer.ggml.merges"})
    EXPECT_EQ(std::get<MetaArray>((*back)->metadata.find(key)->value).bytes,
              std::get<MetaArray>(model->metadata.find(key)->value).bytes)
        << key;
  EXPECT_EQ(*(*back)->metadata.get_string("tokenizer.ggml.pre"), "qwen2");
  EXPECT_EQ(*(*back)->metadata.get_uint("tokenizer.ggml.eos_token_id"), 3u);
  EXPECT_EQ(*(*back)->metadata.get_string("tokenizer.chat_template"), "{{ messages }}");
  EXPECT_EQ(*(*back)->metadata.get_float("qwen2.attention.layer_norm_rms_epsilon"), 1e-6f);
  EXPECT_NE((*back)->find("output.weight"), nullptr);
}

// Every type that has its codec: what the rules choose can be written, and opens again.
TEST(Convert, EveryTypeFitsEveryTensor) {
  ThreadPool pool(2);
  Source source("llama");
  source.metadata.set_uint("llama.block_count", 8);
  source.metadata.set_uint("llama.attention.head_count", 8);
  source.metadata.set_uint("llama.attention.head_count_kv", 2);
  source.tensor("token_embd.weight", {256, 2}).tensor("output.weight", {256, 2});
  for (int block = 0; block < 8; ++block) {
    source.tensor(fmt::format("blk.{}.attn_v.weight", block), {256, 2});
    source.tensor(fmt::format("blk.{}.ffn_down.weight", block), {96, 2});
    source.tensor(fmt::format("blk.{}.ffn_up.weight", block), {40, 2});
  }
  auto model = source.open();
  for (const std::string_view type : all_convert_types()) {
    const ConvertOptions options{.type = std::string(type)};
    const auto report = convert_to_gguf(*model, source.folder.path + "/out.gguf", options, pool);
    ASSERT_TRUE(report.ok()) << report.error().message;
    auto made = open_gguf(source.folder.path + "/out.gguf");
    ASSERT_TRUE(made.ok()) << made.error().message;
    const Codec* base = (*made)->find("blk.3.attn_v.weight")->codec;
    // Rows of 40 are no whole blocks of 32: F16 then, and the user is told.
    if (base->block_elems > 1) {
      EXPECT_EQ((*made)->find("blk.0.ffn_up.weight")->codec->name, "F16") << type;
      EXPECT_FALSE(report->warnings.empty()) << type;
      EXPECT_LE(report->warnings.size(), 3u) << type;  // one a reason, not one a tensor
    }
  }
}

}  // namespace
}  // namespace venturi
