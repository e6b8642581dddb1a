#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>

#include "formats/hf_architecture.h"
#include "formats/model_file.h"
#include "formats/safetensors.h"
#include "formats/test_files.h"

namespace venturi {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::string kTiny = std::string(VENTURI_SHARED_DIR) + "/data/tiny-llama";

// The directory that the shared GGUF was made of must read as that GGUF, bit for bit.
TEST(HfDirectory, IsTheSharedGguf) {
  if (!std::filesystem::exists(kTiny)) GTEST_SKIP() << kTiny << " is absent";
  auto gguf = open_model(kTiny + "/tiny-llama-f16.gguf");
  auto hf = open_model(kTiny + "/hf");
  ASSERT_TRUE(gguf.ok()) << gguf.error().message;
  ASSERT_TRUE(hf.ok()) << hf.error().message;
  for (const auto& [key, value] : (*gguf)->metadata.entries()) {
    if (key == "general.name" || key == "general.file_type" ||
        key == "general.quantization_version")
      continue;
    const MetaValue* found = (*hf)->metadata.find(key);
    ASSERT_NE(found, nullptr) << key;
    EXPECT_TRUE(*found == value) << key;
  }

  ASSERT_EQ((*hf)->tensors.size(), (*gguf)->tensors.size());
  for (const TensorInfo& expected : (*gguf)->tensors) {
    const TensorInfo* found = (*hf)->find(expected.name);
    ASSERT_NE(found, nullptr) << expected.name;
    ASSERT_EQ(found->dims, expected.dims) << expected.name;
    std::vector<float> a(static_cast<size_t>(expected.n_values())), b(a.size());
    ASSERT_TRUE((*gguf)->read_rows_f32(expected, 0, a).ok());
    ASSERT_TRUE((*hf)->read_rows_f32(*found, 0, b).ok());
    EXPECT_EQ(std::memcmp(a.data(), b.data(), a.size() * 4), 0) << expected.name;
  }
}

// --- made-up directories
// ---------------------------------------------------------------------------

// A folder with a config, a WordPiece tokenizer of four tokens, and F32 tensors whose value i is i.
class MadeUp {
 public:
  explicit MadeUp(std::string_view config) {
    folder.write("config.json", config);
    folder.write("tokenizer.json",
                 R"({"model":{"type":"WordPiece","vocab":{"[UNK]":0,"a":1,"##b":2}},
        "added_tokens":[{"id":0,"content":"[UNK]","special":true}]})");
  }
  MadeUp& tensor(std::string name, std::vector<int64_t> shape) {
    tensors_.push_back({.name = std::move(name), .dtype = "F32", .shape = std::move(shape)});
    return *this;
  }
  Result<std::unique_ptr<ModelFile>> open() {
    auto written = write_safetensors(
        folder.path + "/model.safetensors", tensors_, {},
        [&](size_t index, const auto& sink) -> Status {
          int64_t n = 1;
          for (const int64_t dim : tensors_[index].shape) n *= dim;
          std::vector<float> values(static_cast<size_t>(n));
          for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
          return sink({reinterpret_cast<const uint8_t*>(values.data()), values.size() * 4});
        });
    if (!written.ok()) return std::move(written).error();
    TRY(written->commit());
    return open_hf_directory(folder.path);
  }

  TemporaryFolder folder;

 private:
  std::vector<SafeTensor> tensors_;
};

std::vector<float> values_of(const ModelFile& model, std::string_view name) {
  const TensorInfo* tensor = model.find(name);
  if (!tensor) return {};
  std::vector<float> values(static_cast<size_t>(tensor->n_values()));
  if (!model.read_rows_f32(*tensor, 0, values).ok()) return {};
  return values;
}

std::string llama_config(std::string_view more) {
  return R"({"architectures":["LlamaForCausalLM"],"num_hidden_layers":1,"hidden_size":8,
      "num_attention_heads":2,"num_key_value_heads":1,"vocab_size":4,"max_position_embeddings":64)" +
         std::string(more) + "}";
}

TEST(HfDirectory, LlamaReordersRotatedRows) {
  MadeUp made(llama_config(""));
  auto model = made.tensor("model.embed_tokens.weight", {4, 8})
                   .tensor("model.layers.0.self_attn.q_proj.weight", {8, 1})
                   .tensor("model.layers.0.self_attn.k_proj.bias", {4})
                   .open();
  ASSERT_TRUE(model.ok()) << model.error().message;
  // Each head of four rows: (0 1 | 2 3) to pairs (0 2)(1 3).
  EXPECT_THAT(values_of(**model, "blk.0.attn_q.weight"), ElementsAre(0, 2, 1, 3, 4, 6, 5, 7));
  EXPECT_THAT(values_of(**model, "blk.0.attn_k.bias"), ElementsAre(0, 2, 1, 3));
  EXPECT_THAT(*(*model)->metadata.get_strings("tokenizer.ggml.tokens"),
              ElementsAre("[UNK]", "\u2581a", "b", "[PAD3]"));
}

TEST(HfDirectory, ActivationsOtherThanTheUsual) {
  const auto key_of = [](std::string_view name) -> std::string {
    MadeUp made(llama_config(fmt::format(",\"hidden_act\":{}", name)));
    auto model = made.tensor("model.embed_tokens.weight", {4, 8}).open();
    if (!model.ok()) return model.error().message;
    return *(*model)->metadata.string_or("llama.hidden_activation", "");
  };
  EXPECT_EQ(key_of("null"), "");
  EXPECT_EQ(key_of("\"silu\""), "");
  EXPECT_EQ(key_of("\"swish\""), "");
  EXPECT_EQ(key_of("\"relu\""), "relu");
  EXPECT_EQ(key_of("\"relu2\""), "relu2");
  EXPECT_EQ(key_of("\"gelu\""), "gelu");
  EXPECT_EQ(key_of("\"gelu_new\""), "gelu_pytorch_tanh");
  EXPECT_THAT(key_of("7"), HasSubstr("hidden_act"));

  MadeUp qwen(R"({"architectures":["Qwen2ForCausalLM"],"num_hidden_layers":1,"hidden_size":8,"hidden_act":"relu",
      "num_attention_heads":2,"num_key_value_heads":1,"vocab_size":4,"max_position_embeddings":64})");
  const auto refused = qwen.tensor("model.embed_tokens.weight", {4, 8}).open();
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, Code::kUnsupported);
  EXPECT_THAT(refused.error().message, HasSubstr("hidden_act is 'relu'"));
}

TEST(HfDirectory, RopeScalings) {
  const auto open = [](std::string_view scaling) {
    MadeUp made(llama_config(fmt::format(",\"rope_theta\":500000.0,\"rope_scaling\":{}", scaling)));
    return made.tensor("model.embed_tokens.weight", {4, 8}).open();
  };
  auto linear = open(R"({"type":"linear","factor":4.0})");
  ASSERT_TRUE(linear.ok()) << linear.error().message;
  EXPECT_EQ(*(*linear)->metadata.get_string("llama.rope.scaling.type"), "linear");
  EXPECT_EQ(*(*linear)->metadata.get_float("llama.rope.scaling.factor"), 4);
  auto yarn = open(R"({"rope_type":"yarn","factor":4.0,"original_max_position_embeddings":32})");
  EXPECT_EQ(*(*yarn)->metadata.get_string("llama.rope.scaling.type"), "yarn");
  EXPECT_EQ(*(*yarn)->metadata.get_uint("llama.rope.scaling.original_context_length"), 32u);
  auto dynamic = open(R"({"type":"dynamic","factor":2.0})");
  EXPECT_EQ(*(*dynamic)->metadata.get_uint("llama.rope.scaling.original_context_length"), 64u);
  EXPECT_THAT(open(R"({"type":"spiral","factor":2.0})").error().message, HasSubstr("'spiral'"));

  // Hugging Face's attention_factor is the whole of it; GGUF's is multiplied by 1 + 0.1 ln(factor).
  auto absolute = open(R"({"rope_type":"yarn","factor":4.0,"attention_factor":1.0})");
  EXPECT_FLOAT_EQ(*(*absolute)->metadata.get_float("llama.rope.scaling.yarn_attn_factor"),
                  static_cast<float>(1 / (1 + 0.1 * std::log(4.0))));
  auto balanced = open(R"({"rope_type":"yarn","factor":4.0,"mscale":1.0,"mscale_all_dim":1.0})");
  EXPECT_FLOAT_EQ(*(*balanced)->metadata.get_float("llama.rope.scaling.yarn_attn_factor"),
                  static_cast<float>(1 / (1 + 0.1 * std::log(4.0))));

  auto long_rope = open(R"({"type":"su","short_factor":[1.0,2.0],"long_factor":[4.0,8.5],
      "original_max_position_embeddings":16})");
  ASSERT_TRUE(long_rope.ok()) << long_rope.error().message;
  EXPECT_EQ(*(*long_rope)->metadata.get_string("llama.rope.scaling.type"), "longrope");
  EXPECT_EQ(*(*long_rope)->metadata.get_uint("llama.rope.scaling.original_context_length"), 16u);
  EXPECT_FLOAT_EQ(*(*long_rope)->metadata.get_float("llama.rope.scaling.attn_factor"),
                  static_cast<float>(std::sqrt(1 + std::log(64 / 16.0) / std::log(16.0))));
  EXPECT_THAT(values_of(**long_rope, "rope_factors_short.weight"), ElementsAre(1, 2));
  EXPECT_THAT(values_of(**long_rope, "rope_factors_long.weight"), ElementsAre(4, 8.5f));
  EXPECT_THAT(open(R"({"type":"longrope","short_factor":[1.0,2.0]})").error().message,
              HasSubstr("'long_factor'"));
  EXPECT_THAT(open(R"({"type":"linear"})").error().message, HasSubstr("'factor'"));

  // Llama 3.1's numbers. The first wave is short (kept), the last is far beyond 8192 (times 8).
  auto llama3 =
      open(R"({"rope_type":"llama3","factor":8.0,"low_freq_factor":1.0,"high_freq_factor":4.0,
      "original_max_position_embeddings":8192})");
  ASSERT_TRUE(llama3.ok()) << llama3.error().message;
  const auto factors = values_of(**llama3, "rope_freqs.weight");
  ASSERT_EQ(factors.size(), 2u);
  EXPECT_EQ(factors[0], 1.f);  // wave 2 pi
  // Wave 2 pi sqrt(500000) = 4443: smooth = (8192/4443 - 1)/3, factor 1/((1 - smooth)/8 + smooth).
  const double smooth = (8192 / (2 * M_PI * std::sqrt(500000.0)) - 1) / 3;
  EXPECT_FLOAT_EQ(factors[1], static_cast<float>(1 / ((1 - smooth) / 8 + smooth)));
  EXPECT_FALSE((*llama3)->metadata.contains("llama.rope.scaling.type"));
}

TEST(HfDirectory, MixtralGathersExperts) {
  MadeUp made(R"({"architectures":["MixtralForCausalLM"],"num_hidden_layers":1,"hidden_size":2,
      "num_attention_heads":1,"num_local_experts":2,"num_experts_per_tok":1})");
  made.tensor("model.embed_tokens.weight", {4, 2});
  made.tensor("model.layers.0.block_sparse_moe.experts.1.w2.weight", {2, 3});
  EXPECT_THAT(made.open().error().message, HasSubstr("expected the experts 0 to 1"));
  made.tensor("model.layers.0.block_sparse_moe.experts.0.w2.weight", {2, 3});
  auto model = made.open();
  ASSERT_TRUE(model.ok()) << model.error().message;
  const TensorInfo* experts = (*model)->find("blk.0.ffn_down_exps.weight");
  ASSERT_NE(experts, nullptr);
  EXPECT_THAT(experts->dims, ElementsAre(3, 2, 2));
  EXPECT_THAT(values_of(**model, experts->name), ElementsAre(0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5));
  EXPECT_EQ(*(*model)->metadata.get_uint("llama.expert_used_count"), 1u);
}

TEST(HfDirectory, Gpt2Transposes) {
  MadeUp made(
      R"({"architectures":["GPT2LMHeadModel"],"n_layer":1,"n_embd":2,"n_head":1,"n_ctx":8})");
  auto model = made.tensor("transformer.wte.weight", {4, 2})
                   .tensor("transformer.h.0.attn.c_attn.weight", {2, 6})
                   .tensor("transformer.h.0.attn.c_attn.bias", {6})
                   .tensor("transformer.h.0.attn.bias", {1, 1, 8, 8})
                   .open();
  ASSERT_TRUE(model.ok()) << model.error().message;
  const TensorInfo* qkv = (*model)->find("blk.0.attn_qkv.weight");
  ASSERT_NE(qkv, nullptr);
  EXPECT_THAT(qkv->dims, ElementsAre(2, 6));
  EXPECT_THAT(values_of(**model, "blk.0.attn_qkv.weight"),
              ElementsAre(0, 6, 1, 7, 2, 8, 3, 9, 4, 10, 5, 11));
  float row[2];
  ASSERT_TRUE((*model)->read_row_f32(*qkv, 4, row).ok());
  EXPECT_THAT(row, ElementsAre(4, 10));
  EXPECT_EQ((*model)->tensors.size(), 3u);
  EXPECT_EQ(*(*model)->metadata.get_uint("gpt2.feed_forward_length"), 8u);
}

TEST(HfDirectory, GemmaAddsOneToItsNorms) {
  MadeUp made(
      R"({"architectures":["Gemma3ForConditionalGeneration"],"text_config":{"num_hidden_layers":1,
      "hidden_size":2,"head_dim":4}})");
  auto model = made.tensor("language_model.model.embed_tokens.weight", {4, 2})
                   .tensor("language_model.model.layers.0.self_attn.q_norm.weight", {4})
                   .tensor("vision_tower.anything.at.all", {3})
                   .open();
  ASSERT_TRUE(model.ok()) << model.error().message;
  EXPECT_THAT(values_of(**model, "blk.0.attn_q_norm.weight"), ElementsAre(1, 2, 3, 4));
  EXPECT_EQ(*(*model)->metadata.get_uint("gemma3.attention.sliding_window_pattern"), 6u);
  EXPECT_FLOAT_EQ(static_cast<float>(*(*model)->metadata.get_float("gemma3.attention.scale")),
                  1 / 16.f);
}

TEST(HfDirectory, Mamba2ShapesAndDecay) {
  MadeUp made(
      R"({"architectures":["Mamba2ForCausalLM"],"num_hidden_layers":1,"hidden_size":4,"expand":2,
      "head_dim":4,"n_groups":2,"state_size":3,"conv_kernel":4,"layer_norm_epsilon":1e-5})");
  auto model = made.tensor("backbone.embeddings.weight", {4, 4})
                   .tensor("backbone.layers.0.mixer.A_log", {2})
                   .tensor("backbone.layers.0.mixer.D", {2})
                   .tensor("backbone.layers.0.mixer.conv1d.weight", {20, 1, 4})
                   .tensor("backbone.layers.0.mixer.norm.weight", {8})
                   .tensor("backbone.layers.0.mixer.dt_bias", {2})
                   .open();
  ASSERT_TRUE(model.ok()) << model.error().message;
  EXPECT_THAT((*model)->find("blk.0.ssm_a")->dims, ElementsAre(1, 2));
  EXPECT_THAT(values_of(**model, "blk.0.ssm_a"), ElementsAre(-1, -std::exp(1.f)));
  EXPECT_THAT((*model)->find("blk.0.ssm_d")->dims, ElementsAre(1, 2));
  EXPECT_THAT((*model)->find("blk.0.ssm_conv1d.weight")->dims, ElementsAre(4, 20));
  EXPECT_THAT((*model)->find("blk.0.ssm_norm.weight")->dims, ElementsAre(4, 2));
  EXPECT_EQ(*(*model)->metadata.get_uint("mamba2.ssm.time_step_rank"), 2u);
  EXPECT_FALSE((*model)->metadata.contains("mamba2.attention.key_length"));
}

TEST(HfDirectory, DeepseekAndBertNames) {
  MadeUp made(
      R"({"architectures":["DeepseekV3ForCausalLM"],"model_type":"deepseek_v3","num_hidden_layers":1,
      "hidden_size":2,"num_attention_heads":1,"qk_nope_head_dim":4,"qk_rope_head_dim":2,"v_head_dim":4,
      "kv_lora_rank":8,"n_routed_experts":1,
      "rope_scaling":{"type":"yarn","factor":40,"original_max_position_embeddings":4096,"mscale_all_dim":1.0}})");
  auto deepseek = made.tensor("model.embed_tokens.weight", {4, 2})
                      .tensor("model.layers.0.mlp.gate.e_score_correction_bias", {1})
                      .tensor("model.layers.1.eh_proj.weight", {2, 2})
                      .open();
  ASSERT_TRUE(deepseek.ok()) << deepseek.error().message;
  EXPECT_EQ((*deepseek)->tensors.size(), 2u);
  EXPECT_NE((*deepseek)->find("blk.0.exp_probs_b.bias"), nullptr);
  EXPECT_EQ(*(*deepseek)->metadata.get_uint("deepseek2.attention.key_length"), 6u);
  EXPECT_EQ(*(*deepseek)->metadata.get_uint("deepseek2.expert_gating_func"), 2u);
  EXPECT_NEAR(*(*deepseek)->metadata.get_float("deepseek2.rope.scaling.yarn_log_multiplier"), 0.1,
              1e-7);

  MadeUp old(
      R"({"architectures":["BertModel"],"num_hidden_layers":1,"hidden_size":2,"num_attention_heads":1})");
  auto bert = old.tensor("bert.embeddings.word_embeddings.weight", {4, 2})
                  .tensor("bert.embeddings.LayerNorm.gamma", {2})
                  .tensor("bert.encoder.layer.0.output.LayerNorm.beta", {2})
                  .tensor("cls.predictions.bias", {4})
                  .open();
  ASSERT_TRUE(bert.ok()) << bert.error().message;
  EXPECT_NE((*bert)->find("token_embd_norm.weight"), nullptr);
  EXPECT_NE((*bert)->find("blk.0.layer_output_norm.bias"), nullptr);
  EXPECT_FALSE(*(*bert)->metadata.get_bool("bert.attention.causal"));
}

TEST(HfDirectory, BadDirectoriesAreNamedErrors) {
  const auto message = [](std::string_view config, std::string name, std::vector<int64_t> shape) {
    MadeUp made(config);
    auto model = made.tensor("model.embed_tokens.weight", {4, 8})
                     .tensor(std::move(name), std::move(shape))
                     .open();
    return model.ok() ? std::string("opened") : model.error().message;
  };
  const std::string q = "model.layers.0.self_attn.q_proj.weight";
  EXPECT_EQ(message(llama_config(""), q, {8, 8}), "opened");
  EXPECT_THAT(message(llama_config(""), "model.layers.0.what.weight", {1}),
              HasSubstr("'model.layers.0.what.weight'"));
  EXPECT_THAT(message(llama_config(""), "model.layers.7.mlp.up_proj.weight", {8, 8}),
              HasSubstr("block 7"));
  EXPECT_THAT(message(llama_config(""), q, {6, 8}), HasSubstr("into pairs"));
  EXPECT_THAT(message(llama_config(""), q, {2, 2, 2, 2, 1}), HasSubstr("5 dimensions"));
  EXPECT_THAT(message(llama_config(""), q, {0, 8}), HasSubstr("empty"));
  EXPECT_THAT(message(llama_config(",\"rope_theta\":\"x\""), q, {8, 8}), HasSubstr("rope_theta"));
  EXPECT_THAT(message(llama_config(",\"num_attention_heads\":-1"), q, {8, 8}),
              HasSubstr("num_attention_heads"));
  EXPECT_THAT(message("{\"architectures\":[\"Other\"]}", q, {8, 8}), HasSubstr("'Other'"));
  EXPECT_THAT(message("{}", q, {8, 8}), HasSubstr("architectures"));
  EXPECT_THAT(message("[", q, {8, 8}), HasSubstr("not valid JSON"));
  EXPECT_THAT(message(std::string(1000, '['), q, {8, 8}), HasSubstr("config.json"));
  EXPECT_THAT(
      message(llama_config(",\"x\":" + std::string(200, '[') + std::string(200, ']')), q, {8, 8}),
      HasSubstr("nested deeper"));
  // More tokens than the embedding has rows, and ids far beyond.
  MadeUp many(llama_config(""));
  many.folder.write("tokenizer.json", R"({"model":{"type":"WordPiece","vocab":{"a":2000000000}}})");
  EXPECT_THAT(many.tensor("model.embed_tokens.weight", {4, 8}).open().error().message,
              HasSubstr("the embedding has 4 rows"));
}

// Every rule of every family: what it maps must be told apart from what the others map, and come
// back.
TEST(HfArchitectures, RulesAreTheirOwnInverse) {
  for (const HfArchitecture* architecture : all_hf_architectures()) {
    for (const HfRule& rule : architecture->rules) {
      std::string name(rule.hf);
      const auto fill = [&](std::string_view from, std::string_view to) {
        if (const size_t at = name.find(from); at != std::string::npos)
          name.replace(at, from.size(), to);
      };
      fill("{}", "12");
      fill("{e}", "3");
      fill("**", "anything.weight");
      fill("*", "weight");
      const HfMatch match = match_hf_name(*architecture, name);
      ASSERT_EQ(match.rule, &rule) << architecture->name << " " << name;
      if (match.gguf.empty() || rule.hf == "backbone.embedding.weight") continue;
      const HfRule* back = nullptr;
      EXPECT_EQ(hf_name_of(*architecture, match.gguf, match.expert, &back), name);
    }
  }
}

}  // namespace
}  // namespace venturi
