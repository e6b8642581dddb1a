// Adapters: what peft writes is read and lies as the base does; what is wrong or not done here is refused
// and named.
#include "formats/adapter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>

#include "formats/safetensors.h"
#include "formats/test_files.h"

namespace venturi {
namespace {

using nlohmann::json;

struct Stored {
  std::string name;
  std::vector<int64_t> shape;
  std::string dtype = "F32";
};

const std::string kQ = "base_model.model.model.layers.0.self_attn.q_proj", kDown = "base_model.model.model.layers.1.mlp.down_proj";

// A llama of two blocks, 4 heads and 2 key heads of 4: nothing but shapes.
ModelFile llama_base() {
  ModelFile base;
  base.path = "base.gguf";
  base.metadata.set_string("general.architecture", "llama");
  base.metadata.set_uint("llama.attention.head_count", 4);
  base.metadata.set_uint("llama.attention.head_count_kv", 2);
  const auto add = [&](std::string name, std::vector<int64_t> dims) {
    base.by_name.emplace(name, base.tensors.size());
    base.tensors.push_back({.name = std::move(name), .codec = find_codec("F32"), .dims = std::move(dims), .segments = {}});
  };
  add("token_embd.weight", {12, 50});
  for (int i = 0; i < 2; ++i) {
    const std::string block = fmt::format("blk.{}.", i);
    add(block + "attn_q.weight", {12, 16});
    add(block + "attn_k.weight", {12, 8});
    add(block + "attn_v.weight", {12, 8});
    add(block + "ffn_down.weight", {20, 12});
    add(block + "ffn_down_exps.weight", {20, 12, 3});
    add(block + "attn_norm.weight", {12});
  }
  return base;
}

std::vector<Stored> pair(const std::string& module, int64_t n_in, int64_t n_out, int64_t rank) {
  return {{module + ".lora_A.weight", {rank, n_in}}, {module + ".lora_B.weight", {n_out, rank}}};
}

struct Adapted {
  json config = {{"peft_type", "LORA"}, {"r", 3}, {"lora_alpha", 6}, {"target_modules", {"q_proj", "down_proj"}}};
  std::vector<Stored> tensors;
  ModelFile base = llama_base();
  TemporaryFolder folder;

  Adapted() {
    for (const auto& [module, n_in, n_out] : {std::tuple(kQ, 12, 16), std::tuple(kDown, 20, 12)})
      for (Stored& s : pair(module, n_in, n_out, 3)) tensors.push_back(std::move(s));
  }

  Result<AdapterFile> open() {
    folder.write("adapter_config.json", config.dump());
    std::vector<SafeTensor> list;
    for (const Stored& s : tensors) list.push_back({.name = s.name, .dtype = s.dtype, .shape = s.shape});
    auto file = TRY(write_safetensors(folder.path + "/adapter_model.safetensors", list, {},
                                      [&](size_t i, const std::function<Status(std::span<const uint8_t>)>& sink) -> Status {
                                        uint64_t values = 1;
                                        for (const int64_t d : list[i].shape) values *= static_cast<uint64_t>(d);
                                        const uint64_t bytes = values * safetensors_type_bytes(list[i].dtype);
                                        std::vector<float> data(std::max(values, bytes / sizeof(float)));
                                        for (size_t v = 0; v < values; ++v) data[v] = static_cast<float>(i * 1000 + v);
                                        return sink({reinterpret_cast<const uint8_t*>(data.data()), bytes});
                                      }));
    TRY(file.commit());
    return open_adapter(folder.path, base);
  }
  std::string refusal() {
    const auto opened = open();
    return opened ? "" : opened.error().message;
  }
};

TEST(Adapter, IsRead) {
  Adapted a;
  const auto file = a.open();
  ASSERT_TRUE(file) << file.error().message;
  ASSERT_EQ(file->pairs.size(), 2u);
  EXPECT_EQ(file->pairs[0].weight, "blk.0.attn_q.weight");
  EXPECT_EQ(file->pairs[1].weight, "blk.1.ffn_down.weight");
  EXPECT_EQ(file->pairs[0].rank(), 3);
  EXPECT_FLOAT_EQ(file->pairs[0].scale, 2);
  // A as stored; B's rows go from halves of a head to pairs.
  std::vector<float> row(12);
  ASSERT_TRUE(file->stored.read_row_f32(file->pairs[0].a, 1, row));
  EXPECT_EQ(row[0], 12);
  std::vector<float> b(16 * 3);
  ASSERT_TRUE(file->stored.read_rows_f32(file->pairs[0].b, 0, b));
  const int from[] = {0, 2, 1, 3};
  for (int r = 0; r < 16; ++r) EXPECT_EQ(b[r * 3], 1000 + (r / 4 * 4 + from[r % 4]) * 3) << r;
  std::vector<float> plain(12 * 3);
  ASSERT_TRUE(file->stored.read_rows_f32(file->pairs[1].b, 0, plain));
  EXPECT_EQ(plain[3], 3003);
}

TEST(Adapter, Scales) {
  Adapted a;
  a.config["use_rslora"] = true;
  EXPECT_FLOAT_EQ((*a.open()).pairs[0].scale, 6 / std::sqrt(3.0f));
  a.config["alpha_pattern"] = {{"layers.1.mlp.down_proj", 9}};
  EXPECT_FLOAT_EQ((*a.open()).pairs[1].scale, 9 / std::sqrt(3.0f));
  a.config["rank_pattern"] = {{"layers\\.\\d+\\.self_attn\\.q_proj", 5}};
  EXPECT_THAT(a.refusal(), testing::HasSubstr("says rank 5, the tensors have 3"));
  a.tensors[0].shape = {5, 12};
  a.tensors[1].shape = {16, 5};
  EXPECT_FLOAT_EQ((*a.open()).pairs[0].scale, 6 / std::sqrt(5.0f));
}

TEST(Adapter, Targets) {
  Adapted a;
  for (const json& targets : {json("all-linear"), json(".*\\.(q_proj|down_proj)"), json({"self_attn.q_proj", "layers.1.mlp.down_proj"})}) {
    a.config["target_modules"] = targets;
    EXPECT_EQ(a.refusal(), "") << targets;
  }
  for (const json& targets : {json({"q_proj"}), json({"q_proj", "own_proj"}), json("q_proj"), json(".*q_proj")}) {
    a.config["target_modules"] = targets;
    EXPECT_THAT(a.refusal(), testing::HasSubstr("'target_modules' does not name")) << targets;
  }
  a.config["target_modules"] = "(";
  EXPECT_THAT(a.refusal(), testing::HasSubstr("does not compile"));
  a.config["target_modules"] = "(.+)+[0-9]";
  EXPECT_THAT(a.refusal(), testing::HasSubstr("takes too long"));
  a.config["target_modules"] = json::array();
  EXPECT_THAT(a.refusal(), testing::HasSubstr("'target_modules': expected"));
}

TEST(Adapter, WhatIsNotDoneIsNamed) {
  for (const auto& [field, value] : std::vector<std::pair<std::string, json>>{
           {"peft_type", "IA3"}, {"use_dora", true}, {"modules_to_save", {"lm_head"}}, {"bias", "all"}, {"lora_bias", true},
           {"layer_replication", {{0, 1}}}, {"init_lora_weights", "pissa"}, {"trainable_token_indices", {1}},
           {"target_parameters", {"x"}}, {"use_qalora", true}, {"a_field_of_next_year", 3}}) {
    Adapted a;
    a.config[field] = value;
    const auto opened = a.open();
    ASSERT_FALSE(opened) << field;
    EXPECT_EQ(opened.error().code, Code::kUnsupported) << opened.error().message;
    EXPECT_THAT(opened.error().message, testing::HasSubstr(field));
  }
}

TEST(Adapter, WhatAsksForNothingIsTaken) {
  Adapted a;
  a.config.update({{"use_dora", false}, {"modules_to_save", nullptr}, {"bias", "none"}, {"a_field_of_next_year", nullptr},
                   {"init_lora_weights", true}, {"lora_dropout", 0.05}, {"task_type", "CAUSAL_LM"}, {"fan_in_fan_out", false},
                   {"rank_pattern", json::object()}, {"layers_to_transform", {0, 1}}, {"peft_version", "0.18.0"}});
  EXPECT_EQ(a.refusal(), "");
}

TEST(Adapter, WrongConfigurations) {
  for (const auto& [field, value, text] : std::vector<std::tuple<std::string, json, std::string>>{
           {"r", 0, "expected a rank"}, {"r", 1e5, "expected a rank"}, {"r", 2.5, "expected a rank"}, {"r", "x", "expected a number"},
           {"r", 4, "says rank 4"}, {"lora_alpha", 1e300, "expected a number"}, {"lora_alpha", nullptr, "expected a number"},
           {"use_rslora", "yes", "expected true or false"}, {"rank_pattern", {1}, "expected an object"},
           {"target_modules", {1}, "expected names"}, {"init_lora_weights", 3, "expected true"}}) {
    Adapted a;
    a.config[field] = value;
    EXPECT_THAT(a.refusal(), testing::HasSubstr(text)) << field << " " << value;
  }
}

TEST(Adapter, WrongTensors) {
  const std::vector<std::pair<std::function<void(Adapted&)>, std::string>> cases = {
      {[](Adapted& a) { a.tensors.pop_back(); }, "no lora_B"},
      {[](Adapted& a) { a.tensors.clear(); }, "no tensor"},
      {[](Adapted& a) { a.tensors[0].shape = {3, 13}; }, "belongs to another model"},
      {[](Adapted& a) { a.tensors[1].shape = {15, 3}; }, "belongs to another model"},
      {[](Adapted& a) { a.tensors[1].shape = {16, 2}; }, "belongs to another model"},
      {[](Adapted& a) { a.tensors[0].shape = {3, 12, 1}; }, "3 dimensions"},
      {[](Adapted& a) { a.tensors[0].dtype = "I64"; }, "F32, F16 and BF16"},
      {[](Adapted& a) { a.tensors[0].name = kQ + ".lora_A.default.weight"; }, "expected base_model.model.MODULE"},
      {[](Adapted& a) { a.tensors[0].name = kQ + ".lora_magnitude_vector"; }, "DoRA"},
      {[](Adapted& a) { a.tensors[0].name = "base_model.model.model.embed_tokens.lora_embedding_A"; }, "embeddings"},
      {[](Adapted& a) { a.tensors[0].name = "base_model.model.lm_head.weight"; }, "whole modules"},
      {[](Adapted& a) {
         for (int i : {0, 1}) a.tensors[i].name.replace(a.tensors[i].name.find("layers.0"), 8, "layers.7");
       }, "belongs to another model"},
      {[](Adapted& a) {
         for (int i : {0, 1}) a.tensors[i].name = a.tensors[i].name.substr(0, 17) + "some.q_proj" + a.tensors[i].name.substr(kQ.size());
       }, "none that the base"},
  };
  for (const auto& [change, text] : cases) {
    Adapted a;
    change(a);
    EXPECT_THAT(a.refusal(), testing::HasSubstr(text));
  }
  Adapted experts;
  experts.config["target_modules"] = "all-linear";
  experts.tensors = pair("base_model.model.model.layers.0.block_sparse_moe.experts.1.w2", 20, 12, 3);
  EXPECT_THAT(experts.refusal(), testing::HasSubstr("experts"));
  Adapted pickle;
  pickle.folder.write("adapter_model.bin", "x");
  EXPECT_THAT(open_adapter(pickle.folder.path, pickle.base).error().message, testing::HasSubstr("pickle"));
  EXPECT_FALSE(open_adapter("/nowhere/at/all", pickle.base));
  Adapted other;
  other.base.metadata.set_string("general.architecture", "nobody");
  EXPECT_THAT(other.refusal(), testing::HasSubstr("is not known"));
}

TEST(Adapter, AnyCutOfTheFile) {
  Adapted a;
  ASSERT_EQ(a.refusal(), "");
  const std::string path = a.folder.path + "/adapter_model.safetensors";
  std::ifstream in(path, std::ios::binary);
  const std::string whole((std::istreambuf_iterator<char>(in)), {});
  for (size_t n = 0; n < whole.size(); n += 7) {
    a.folder.write("adapter_model.safetensors", whole.substr(0, n));
    EXPECT_FALSE(open_adapter(a.folder.path, a.base)) << n;
  }
}

// A GGUF adapter lies as the base does already.
TEST(Adapter, OfGguf) {
  const ModelFile base = llama_base();
  TemporaryFolder folder;
  const auto file = [&](std::string_view type, std::string_view architecture, std::string_view weight, uint64_t n_out) {
    GgufBuilder b;
    b.start(2, 4).key_string("general.architecture", architecture).key_string("general.type", type)
        .key_string("adapter.type", "lora").key("adapter.lora.alpha", 6).raw(8.0f)
        .tensor(std::string(weight) + ".lora_a", {12, 4}, 0, 0).tensor(std::string(weight) + ".lora_b", {4, n_out}, 0, 192)
        .pad().zeros(192 + 16 * n_out).pad();
    return folder.write("adapter.gguf", b.bytes);
  };
  const auto opened = open_adapter(file("adapter", "llama", "blk.0.attn_q.weight", 16), base);
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_EQ(opened->pairs[0].weight, "blk.0.attn_q.weight");
  EXPECT_FLOAT_EQ(opened->pairs[0].scale, 2);
  EXPECT_EQ(opened->pairs[0].b.rope_heads, 0);
  const auto refusal = [&](const std::string& path) { return open_adapter(path, base).error().message; };
  EXPECT_THAT(refusal(file("model", "llama", "blk.0.attn_q.weight", 16)), testing::HasSubstr("expected \"adapter\""));
  EXPECT_THAT(refusal(file("adapter", "qwen2", "blk.0.attn_q.weight", 16)), testing::HasSubstr("for the architecture"));
  EXPECT_THAT(refusal(file("adapter", "llama", "blk.0.attn_q.weight", 15)), testing::HasSubstr("another model"));
  EXPECT_THAT(refusal(file("adapter", "llama", "blk.9.attn_q.weight", 16)), testing::HasSubstr("another model"));
  EXPECT_THAT(refusal(file("adapter", "llama", "token_embd.weight", 50)), testing::HasSubstr("embeddings"));
}

}  // namespace
}  // namespace venturi
