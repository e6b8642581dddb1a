#include "formats/hf_vocabulary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "formats/model_file.h"
#include "formats/sentencepiece_model.h"
#include "formats/test_files.h"

namespace venturi {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// --- SentencePiece
// ---------------------------------------------------------------------------------

// Protobuf fields, right or wrong.
std::string varint(uint64_t value) {
  std::string out;
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  return out + static_cast<char>(value);
}
std::string number(uint32_t field, uint64_t value) { return varint(field << 3) + varint(value); }
std::string bytes(uint32_t field, std::string_view value) {
  return varint(field << 3 | 2) + varint(value.size()) + std::string(value);
}
std::string real(uint32_t field, float value) {
  return varint(field << 3 | 5) + std::string(reinterpret_cast<const char*>(&value), 4);
}
std::string piece(std::string_view text, float score, uint64_t type) {
  return bytes(1, bytes(1, text) + real(2, score) + number(3, type));
}

TEST(SentencePieceModel, ReadsPiecesAndSettings) {
  const std::string model =
      piece("<unk>", 0, 2) + bytes(1, bytes(1, "a") + real(2, -1.5f)) + bytes(99, "unknown field") +
      bytes(2, number(3, 2) + number(40, 0) + number(41, 1) + number(43, UINT64_MAX)) +
      bytes(3, bytes(1, "identity") + number(3, 0) + number(4, 0));
  const auto parsed = parse_sentencepiece_model(model, "m");
  ASSERT_TRUE(parsed.ok()) << parsed.error().message;
  ASSERT_EQ(parsed->pieces.size(), 2u);
  EXPECT_EQ(parsed->pieces[0].type, 2u);
  EXPECT_EQ(parsed->pieces[1].text, "a");
  EXPECT_EQ(parsed->pieces[1].score, -1.5f);
  EXPECT_EQ(parsed->pieces[1].type, 1u);
  EXPECT_TRUE(parsed->is_bpe);
  EXPECT_EQ(parsed->bos_id, 1);
  EXPECT_EQ(parsed->eos_id, -1);  // the default 2 is no piece
  EXPECT_EQ(parsed->pad_id, -1);
  EXPECT_FALSE(parsed->add_dummy_prefix);
}

TEST(SentencePieceModel, BadFilesAreErrors) {
  const auto message = [](const std::string& model) {
    const auto parsed = parse_sentencepiece_model(model, "m");
    return parsed.ok() ? std::string("parsed") : parsed.error().message;
  };
  const std::string good = piece("a", 0, 1);
  EXPECT_EQ(message(good), "parsed");
  EXPECT_THAT(message(""), HasSubstr("no pieces"));
  EXPECT_THAT(message(bytes(1, "")), HasSubstr("a piece without text"));
  EXPECT_THAT(message(piece("a", 0, 7)), HasSubstr("unknown type"));
  EXPECT_THAT(message(piece("a", NAN, 1)), HasSubstr("no number"));
  EXPECT_THAT(message(good + varint(1 << 3 | 2) + varint(UINT64_MAX)), HasSubstr("are left"));
  EXPECT_THAT(message(good + varint(1 << 3 | 3)), HasSubstr("wire type 3"));
  EXPECT_THAT(message(good + std::string(11, '\xff')), HasSubstr("more than ten bytes"));
  EXPECT_THAT(message(good + varint(0)), HasSubstr("field number"));
  EXPECT_THAT(message(good + bytes(2, number(3, 4))), HasSubstr("model type 4"));
  for (size_t n = 1; n < good.size(); ++n) EXPECT_NE(message(good.substr(0, n)), "parsed") << n;
}

// --- tokenizer.json
// --------------------------------------------------------------------------------

json byte_level(const json& pre_tokenizer) {
  return {
      {"pre_tokenizer", pre_tokenizer},
      {"decoder", {{"type", "ByteLevel"}}},
      {"model", {{"type", "BPE"}, {"vocab", {{"a", 0}, {"b", 1}, {"ab", 2}}}, {"merges", {"a b"}}}},
      {"added_tokens", {{{"id", 3}, {"content", "<|end|>"}, {"special", true}}}}};
}

json split(std::string_view regex) {
  return {{"type", "Split"}, {"pattern", {{"Regex", regex}}}, {"behavior", "Isolated"}};
}

json sequence(const std::vector<json>& steps) {
  return {{"type", "Sequence"}, {"pretokenizers", steps}};
}

Result<Metadata> read(const TemporaryFolder& folder, uint64_t n_rows,
                      const json& config = json::object()) {
  Metadata metadata;
  TRY(set_hf_vocabulary(folder.path, HfConfig(config, "config.json"), n_rows, metadata));
  return metadata;
}

TEST(TokenizerJson, ByteLevel) {
  TemporaryFolder folder;
  json tokenizer = byte_level({{"type", "ByteLevel"}});
  // The newer form of merges, one with a space inside.
  tokenizer["model"]["merges"] = json::parse(R"([["a","b"],[" ","a"]])");
  tokenizer["post_processor"] = {
      {"type", "TemplateProcessing"},
      {"single",
       {{{"SpecialToken", {{"id", "<|end|>"}, {"type_id", 0}}}}, {{"Sequence", {{"id", "A"}}}}}}};
  folder.write("tokenizer.json", tokenizer.dump());
  folder.write("tokenizer_config.json",
               R"({"bos_token":{"content":"<|end|>"},"eos_token":"<|end|>","pad_token":null,
                   "chat_template":[{"name":"default","template":"D"},{"name":"tool_use","template":"T"}]})");
  const auto metadata = read(folder, 5, {{"eos_token_id", {2, 3}}, {"unk_token_id", 99}});
  ASSERT_TRUE(metadata.ok()) << metadata.error().message;
  EXPECT_EQ(*metadata->get_string("tokenizer.ggml.model"), "gpt2");
  EXPECT_EQ(*metadata->get_string("tokenizer.ggml.pre"), "gpt-2");
  EXPECT_THAT(*metadata->get_strings("tokenizer.ggml.tokens"),
              ElementsAre("a", "b", "ab", "<|end|>", "[PAD4]"));
  EXPECT_THAT(*metadata->get_ints("tokenizer.ggml.token_type"), ElementsAre(1, 1, 1, 3, 5));
  EXPECT_THAT(*metadata->get_strings("tokenizer.ggml.merges"), ElementsAre("a b", "Ġ a"));
  EXPECT_EQ(*metadata->get_uint("tokenizer.ggml.eos_token_id"), 3u);  // the text before the number
  EXPECT_FALSE(metadata->contains("tokenizer.ggml.unknown_token_id"));
  EXPECT_TRUE(*metadata->get_bool("tokenizer.ggml.add_bos_token"));
  EXPECT_FALSE(*metadata->get_bool("tokenizer.ggml.add_eos_token"));
  EXPECT_EQ(*metadata->get_string("tokenizer.chat_template"), "D");
  EXPECT_EQ(*metadata->get_string("tokenizer.chat_template.tool_use"), "T");
  folder.write("chat_template.jinja", "J");
  EXPECT_EQ(*read(folder, 5)->get_string("tokenizer.chat_template"), "J");
}

TEST(TokenizerJson, PreTokenizersByWhatTheyDo) {
  const json bytes_only = {{"type", "ByteLevel"}, {"use_regex", false}};
  const json digit = {{"type", "Digits"}, {"individual_digits", true}};
  const std::string start = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|)";
  const std::string end = R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
  const std::pair<json, std::string_view> cases[] = {
      {{{"type", "ByteLevel"}}, "gpt-2"},
      {sequence({digit, {{"type", "ByteLevel"}}}), "starcoder"},
      {sequence({split(start + R"(\p{N}{1,3})" + end), bytes_only}), "dbrx"},
      {sequence({split(start + R"(\p{N})" + end), bytes_only}), "qwen2"},
      {sequence({split(R"([\r\n])"), split(R"(\s?\p{L}+)"), split(R"(\s?\p{P}+)"),
                 split("[一-龥ࠀ-一가-퟿]+"), digit, bytes_only}),
       "deepseek-coder"},
      {sequence({{{"type", "Punctuation"}, {"behavior", "Contiguous"}},
                 {{"type", "ByteLevel"}},
                 {{"type", "Digits"}, {"individual_digits", false}},
                 split("[0-9][0-9][0-9]")}),
       "falcon"},
  };
  TemporaryFolder folder;
  for (const auto& [pre, name] : cases) {
    folder.write("tokenizer.json", byte_level(pre).dump());
    const auto metadata = read(folder, 4);
    ASSERT_TRUE(metadata.ok()) << metadata.error().message;
    EXPECT_EQ(*metadata->get_string("tokenizer.ggml.pre"), name);
  }
  json llama3 = byte_level(cases[2].first);
  llama3["model"]["ignore_merges"] = true;
  folder.write("tokenizer.json", llama3.dump());
  EXPECT_EQ(*read(folder, 4)->get_string("tokenizer.ggml.pre"), "llama-bpe");
  folder.write("tokenizer.json", byte_level(split("my own")).dump());
  EXPECT_THAT(read(folder, 4).error().message, HasSubstr("'split:my own'"));
}

// What is written for a name is known again by what it does, with characters in place of escapes.
TEST(TokenizerJson, PreTokenizersAreWrittenAsTheyAreRead) {
  for (const char* name : {"gpt-2", "starcoder", "falcon", "llama-bpe", "qwen2", "qwen35", "tekken", "gpt-4o",
                           "deepseek-llm", "deepseek-coder", "deepseek-v3", "bloom"}) {
    const auto written = hf_pre_tokenizer_json(name);
    ASSERT_TRUE(written.ok()) << written.error().message;
    EXPECT_EQ(written->dump().find("x{"), std::string::npos) << name;
    TokenizerJson tokenizer;
    tokenizer.rest = {{"pre_tokenizer", *written}, {"model", {{"ignore_merges", true}}}};
    const auto read = hf_pre_tokenizer_name(tokenizer, "t");
    ASSERT_TRUE(read.ok()) << read.error().message;
    EXPECT_EQ(*read, name);
  }
  EXPECT_FALSE(hf_pre_tokenizer_json("default").ok());
}

TEST(TokenizerJson, UnigramComesBackAsASentencePieceModel) {
  const TemporaryFolder folder;
  Metadata metadata, back;
  metadata.set_string("tokenizer.ggml.model", "t5");
  metadata.set_strings("tokenizer.ggml.tokens", {"<pad>", "</s>", "<unk>", "\u2581a", "b"});
  metadata.set_floats("tokenizer.ggml.scores", {0, 0, 0, -1.5f, -2.25f});
  metadata.set_ints("tokenizer.ggml.token_type", {3, 3, 2, 1, 1});
  metadata.set("tokenizer.ggml.precompiled_charsmap",
               {MetaType::kArray, MetaArray{MetaType::kU8, 3, std::string("\1\0\2", 3)}});
  metadata.set_uint("tokenizer.ggml.eos_token_id", 1);
  auto files = write_hf_vocabulary(metadata, folder.path);
  ASSERT_TRUE(files.ok()) << files.error().message;
  ASSERT_TRUE(commit_all(*files).ok());
  ASSERT_TRUE(set_hf_vocabulary(folder.path, HfConfig(), 5, back).ok());
  for (const char* key : {"tokenizer.ggml.model", "tokenizer.ggml.tokens", "tokenizer.ggml.scores",
                          "tokenizer.ggml.token_type", "tokenizer.ggml.precompiled_charsmap", "tokenizer.ggml.eos_token_id"}) {
    ASSERT_NE(back.find(key), nullptr) << key;
    EXPECT_TRUE(*back.find(key) == *metadata.find(key)) << key;
  }
}

TEST(TokenizerJson, SpacedBpeTakesItsScoresFromMerges) {
  TemporaryFolder folder;
  folder.write("tokenizer.json", R"({"normalizer":{"type":"Sequence","normalizers":[
      {"type":"Prepend","prepend":"▁"},{"type":"Replace","pattern":{"String":" "},"content":"▁"}]},
      "model":{"type":"BPE","unk_token":"<unk>","byte_fallback":true,
      "vocab":{"<unk>":0,"<0x0A>":1,"▁":2,"a":3,"▁a":4,"aa":5},"merges":["▁ a","a a"]},
      "added_tokens":[{"id":0,"content":"<unk>","special":true}]})");
  const auto metadata = read(folder, 6);
  ASSERT_TRUE(metadata.ok()) << metadata.error().message;
  EXPECT_EQ(*metadata->get_string("tokenizer.ggml.model"), "llama");
  EXPECT_THAT(*metadata->get_ints("tokenizer.ggml.token_type"), ElementsAre(2, 6, 1, 1, 1, 1));
  EXPECT_THAT(*metadata->get_floats("tokenizer.ggml.scores"), ElementsAre(0, 0, 0, 0, 0, -1));
  EXPECT_TRUE(*metadata->get_bool("tokenizer.ggml.add_space_prefix"));
}

TEST(TokenizerJson, Unigram) {
  TemporaryFolder folder;
  folder.write("tokenizer.json",
               R"({"normalizer":{"type":"Precompiled","precompiled_charsmap":"AAEC/w=="},
      "pre_tokenizer":{"type":"Metaspace","prepend_scheme":"always"},
      "model":{"type":"Unigram","unk_id":0,"vocab":[["<unk>",0],["▁a",-1.25]]}})");
  const auto metadata = read(folder, 2);
  ASSERT_TRUE(metadata.ok()) << metadata.error().message;
  EXPECT_EQ(*metadata->get_string("tokenizer.ggml.model"), "t5");
  EXPECT_THAT(*metadata->get_floats("tokenizer.ggml.scores"), ElementsAre(0, -1.25f));
  EXPECT_THAT(*metadata->get_ints("tokenizer.ggml.precompiled_charsmap"),
              ElementsAre(0, 1, 2, 255));
  EXPECT_EQ(*metadata->get_uint("tokenizer.ggml.unknown_token_id"), 0u);
}

TEST(TokenizerJson, BadFilesAreNamedErrors) {
  TemporaryFolder folder;
  const auto message = [&](std::string_view text) {
    const auto parsed = parse_tokenizer_json(text, "t.json");
    return parsed.ok() ? std::string("parsed") : parsed.error().message;
  };
  EXPECT_EQ(message(R"({"model":{"type":"BPE","vocab":{"a":0},"merges":[]}})"), "parsed");
  EXPECT_THAT(message(""), HasSubstr("not valid JSON"));
  EXPECT_THAT(message("[]"), HasSubstr("object 'model'"));
  EXPECT_THAT(message(std::string(100000, '[')), HasSubstr("too deep"));
  EXPECT_THAT(message(R"({"model":{"vocab":{"a":0,"b":0}}})"),
              HasSubstr("two pieces have the id 0"));
  EXPECT_THAT(message(R"({"model":{"vocab":{"a":-1}}})"), HasSubstr("out of range"));
  EXPECT_THAT(message(R"({"model":{"vocab":{"a":2147483648}}})"), HasSubstr("out of range"));
  EXPECT_THAT(message(R"({"model":{"vocab":{"a":1.5}}})"), HasSubstr("out of range"));
  EXPECT_THAT(message(R"({"model":{"vocab":{"a":"b"}}})"), HasSubstr("a string where"));
  EXPECT_THAT(message(R"({"model":{"vocab":{"a":{}}}})"), HasSubstr("an object where"));
  EXPECT_THAT(message(R"({"model":{"vocab":{"a":[]}}})"), HasSubstr("an array where"));
  EXPECT_THAT(message(R"({"model":{"vocab":[["a"]]}})"), HasSubstr("not a pair"));
  EXPECT_THAT(message(R"({"model":{"vocab":[["a",0,1]]}})"), HasSubstr("a number where"));
  EXPECT_THAT(message(R"({"model":{"vocab":["a"]}})"), HasSubstr("a string where"));
  EXPECT_THAT(message(R"({"model":{"vocab":{},"merges":["ab"]}})"), HasSubstr("not two pieces"));
  EXPECT_THAT(message(R"({"model":{"vocab":{},"merges":[["a"]]}})"), HasSubstr("not a pair"));
  EXPECT_THAT(message(R"({"model":{"vocab":{},"merges":[["a","b","c"]]}})"),
              HasSubstr("a string where"));
  EXPECT_THAT(message(R"({"model":{"vocab":{},"vocab":{}}})"), HasSubstr("twice"));
  EXPECT_THAT(message(R"({"model":{"vocab":{},"merges":{"a":"b"}}})"), HasSubstr("model.merges"));
  EXPECT_THAT(message(R"({"model":{"vocab":7}})"), HasSubstr("model.vocab"));
  EXPECT_THAT(message(R"({"model":{}})"), HasSubstr("no vocabulary"));
  EXPECT_THAT(message(R"({"model":{"vocab":{}},"added_tokens":[{"id":-1,"content":"a"}]})"),
              HasSubstr("added_tokens[0]"));
  EXPECT_THAT(message(R"({"model":{"vocab":{}},"added_tokens":[[]]})"),
              HasSubstr("added_tokens[0]"));
  EXPECT_THAT(message(R"({"model":{"vocab":{}},"added_tokens":7})"), HasSubstr("not an array"));
}

// A real vocabulary, written as tokenizer.json, comes back as it was.
TEST(TokenizerJson, SharedVocabularyRoundTrips) {
  const std::string path = std::string(VENTURI_SHARED_DIR) + "/data/vocab/ggml-vocab-gpt-2.gguf";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is absent";
  auto model = open_gguf(path);
  ASSERT_TRUE(model.ok());
  const Metadata& expected = (*model)->metadata;
  const auto tokens = *expected.get_strings("tokenizer.ggml.tokens");
  const auto types = *expected.get_ints("tokenizer.ggml.token_type");
  json tokenizer = byte_level({{"type", "ByteLevel"}});
  tokenizer["added_tokens"] = json::array();
  json& vocab = tokenizer["model"]["vocab"] = json::object();
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (types[i] == 1)
      vocab[std::string(tokens[i])] = i;
    else
      tokenizer["added_tokens"].push_back({{"id", i}, {"content", tokens[i]}, {"special", true}});
  }
  tokenizer["model"]["merges"] = *expected.get_strings("tokenizer.ggml.merges");
  TemporaryFolder folder;
  folder.write("tokenizer.json", tokenizer.dump());
  const auto metadata = read(folder, tokens.size());
  ASSERT_TRUE(metadata.ok()) << metadata.error().message;
  for (const char* key :
       {"tokenizer.ggml.tokens", "tokenizer.ggml.token_type", "tokenizer.ggml.merges"})
    EXPECT_EQ(std::get<MetaArray>(metadata->find(key)->value).bytes,
              std::get<MetaArray>(expected.find(key)->value).bytes)
        << key;
}

}  // namespace
}  // namespace venturi
