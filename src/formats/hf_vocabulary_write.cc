// GGUF's tokenizer keys as the files that Hugging Face reads.
#include <algorithm>

#include "base/file.h"
#include "formats/hf_vocabulary.h"

namespace venturi {

namespace {

using nlohmann::json;

constexpr std::string_view kSpaceMark = "\u2581";

enum TokenType : int64_t { kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5 };

std::string dumped(const json& value) {
  return value.dump(1, ' ', false, json::error_handler_t::replace) + "\n";
}

struct Tokens {
  std::vector<std::string_view> texts;
  std::vector<int64_t> types;

  static Result<Tokens> from(const Metadata& metadata) {
    Tokens tokens;
    tokens.texts = TRY(metadata.get_strings("tokenizer.ggml.tokens"));
    tokens.types = TRY(metadata.get_ints("tokenizer.ggml.token_type"));
    if (tokens.texts.size() != tokens.types.size())
      return error(Code::kCorrupt, "tokenizer.ggml.token_type has {} entries for {} tokens",
                   tokens.types.size(), tokens.texts.size());
    return tokens;
  }

  // The text of the token that `key` names; empty if there is none.
  std::string special(const Metadata& metadata, std::string_view name) const {
    const auto id = metadata.get_uint(fmt::format("tokenizer.ggml.{}_token_id", name));
    return id.ok() && *id < texts.size() ? std::string(texts[*id]) : std::string();
  }
};

// --- tokenizer.model: protobuf, as sentencepiece_model.h reads it
// ------------------------------------

void put_varint(std::string& out, uint64_t value) {
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  out += static_cast<char>(value);
}

void put_number(std::string& out, uint32_t field, uint64_t value) {
  put_varint(out, field << 3);
  put_varint(out, value);
}

void put_bytes(std::string& out, uint32_t field, std::string_view bytes) {
  put_varint(out, field << 3 | 2);
  put_varint(out, bytes.size());
  out += bytes;
}

void put_float(std::string& out, uint32_t field, float value) {
  put_varint(out, field << 3 | 5);
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

// The tables of a Unigram model's normaliser; empty if there are none.
Result<std::string> charsmap(const Metadata& metadata) {
  const MetaValue* value = metadata.find("tokenizer.ggml.precompiled_charsmap");
  if (!value) return std::string();
  const auto* array = std::get_if<MetaArray>(&value->value);
  if (!array || (array->element != MetaType::kU8 && array->element != MetaType::kI8))
    return error(Code::kCorrupt, "tokenizer.ggml.precompiled_charsmap is not an array of bytes");
  return array->bytes;
}

Result<std::string> sentencepiece_bytes(const Metadata& metadata, const Tokens& tokens, bool unigram) {
  const auto scores = TRY(metadata.get_floats("tokenizer.ggml.scores"));
  if (scores.size() != tokens.texts.size())
    return error(Code::kCorrupt, "tokenizer.ggml.scores has {} entries for {} tokens",
                 scores.size(), tokens.texts.size());
  std::string out;
  for (size_t i = 0; i < tokens.texts.size(); ++i) {
    std::string piece;
    put_bytes(piece, 1, tokens.texts[i]);
    put_float(piece, 2, scores[i]);
    put_number(piece, 3, static_cast<uint64_t>(tokens.types[i]));
    put_bytes(out, 1, piece);
  }
  std::string trainer;
  put_number(trainer, 3, unigram ? 1 : 2);  // Unigram, BPE
  put_number(trainer, 35, 1);  // byte fallback
  const std::pair<uint32_t, std::string_view> ids[] = {
      {40, "unknown"}, {41, "bos"}, {42, "eos"}, {43, "padding"}};
  for (const auto& [field, name] : ids) {
    const auto id = metadata.get_uint(fmt::format("tokenizer.ggml.{}_token_id", name));
    put_number(trainer, field, id.ok() ? *id : UINT64_MAX);  // -1: none
  }
  put_bytes(out, 2, trainer);
  std::string normalizer;
  const std::string map = TRY(charsmap(metadata));
  put_bytes(normalizer, 1, map.empty() ? "identity" : "nmt_nfkc");
  if (!map.empty()) put_bytes(normalizer, 2, map);
  put_number(normalizer, 3, TRY(metadata.bool_or("tokenizer.ggml.add_space_prefix", true)));
  put_number(normalizer, 4,
             TRY(metadata.bool_or("tokenizer.ggml.remove_extra_whitespaces", false)));
  put_number(normalizer, 5, 1);
  put_bytes(out, 3, normalizer);
  return out;
}

// --- tokenizer.json
// ----------------------------------------------------------------------------------

json added_tokens(const Tokens& tokens) {
  json added = json::array();
  for (size_t i = 0; i < tokens.texts.size(); ++i) {
    if (tokens.types[i] != kControl && tokens.types[i] != kUserDefined && tokens.types[i] != kUnknown) continue;
    added.push_back({{"id", i},
                     {"content", tokens.texts[i]},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", tokens.types[i] != kUserDefined}});
  }
  return added;
}

// What puts `first` in front of a text and `last` behind it, where they are not empty.
json template_processing(const Tokens& tokens, const std::string& first, const std::string& last) {
  json single = json::array(), pair = json::array(), specials = json::object();
  const auto special = [&](json& list, const std::string& text, int type_id) {
    if (text.empty()) return;
    list.push_back({{"SpecialToken", {{"id", text}, {"type_id", type_id}}}});
    const auto id =
        std::find(tokens.texts.begin(), tokens.texts.end(), text) - tokens.texts.begin();
    specials[text] = {{"id", text}, {"ids", json::array({id})}, {"tokens", json::array({text})}};
  };
  const auto text = [](json& list, const char* name, int type_id) {
    list.push_back({{"Sequence", {{"id", name}, {"type_id", type_id}}}});
  };
  special(single, first, 0), text(single, "A", 0), special(single, last, 0);
  special(pair, first, 0), text(pair, "A", 0), special(pair, last, 0);
  special(pair, first, 1), text(pair, "B", 1), special(pair, last, 1);
  return {{"type", "TemplateProcessing"},
          {"single", single},
          {"pair", pair},
          {"special_tokens", specials}};
}

Result<json> byte_level_json(const Metadata& metadata, const Tokens& tokens) {
  const std::string pre = TRY(metadata.string_or("tokenizer.ggml.pre", "default"));
  const json byte_level = {{"type", "ByteLevel"},
                           {"add_prefix_space", true},
                           {"trim_offsets", true},
                           {"use_regex", true}};
  const bool llama = pre == "llama-bpe" || pre == "llama3" || pre == "llama-v3" || pre == "falcon3";
  const std::string bos = TRY(metadata.bool_or("tokenizer.ggml.add_bos_token", llama))
                              ? tokens.special(metadata, "bos")
                              : "";
  const std::string eos = TRY(metadata.bool_or("tokenizer.ggml.add_eos_token", false))
                              ? tokens.special(metadata, "eos")
                              : "";
  json vocab = json::object();
  for (size_t i = 0; i < tokens.texts.size(); ++i)
    if (tokens.types[i] != kControl && tokens.types[i] != kUserDefined &&
        tokens.types[i] != kUnused)
      vocab[std::string(tokens.texts[i])] = i;
  const auto merges = TRY(metadata.get_strings("tokenizer.ggml.merges"));
  const json model = {{"type", "BPE"},
                      {"dropout", nullptr},
                      {"unk_token", nullptr},
                      {"continuing_subword_prefix", nullptr},
                      {"end_of_word_suffix", nullptr},
                      {"fuse_unk", false},
                      {"byte_fallback", false},
                      {"ignore_merges", llama || pre == "tekken"},
                      {"vocab", std::move(vocab)},
                      {"merges", merges}};
  const std::string form = TRY(metadata.string_or("tokenizer.venturi.normal_form", ""));
  const json splitter = TRY(hf_pre_tokenizer_json(pre));
  return json{{"version", "1.0"},
              {"truncation", nullptr},
              {"padding", nullptr},
              {"added_tokens", added_tokens(tokens)},
              {"normalizer", form.empty() ? json(nullptr) : json{{"type", form}}},
              {"pre_tokenizer", splitter},
              {"post_processor",
               bos.empty() && eos.empty() ? byte_level : template_processing(tokens, bos, eos)},
              {"decoder", byte_level},
              {"model", model}};
}

// "##" marks pieces that continue a word; GGUF marks those that begin one.
std::string word_piece(std::string_view token) {
  if (token.starts_with('[') && token.ends_with(']')) return std::string(token);
  if (token.starts_with(kSpaceMark)) return std::string(token.substr(kSpaceMark.size()));
  return "##" + std::string(token);
}

// Whether no word begins with a capital letter: GGUF has no key for it (schemes/bert.cc).
bool is_uncased(const Tokens& tokens) {
  size_t capitals = 0;
  for (const std::string_view token : tokens.texts)
    capitals += token.size() == kSpaceMark.size() + 1 && token.starts_with(kSpaceMark) && token.back() >= 'A' &&
                token.back() <= 'Z';
  return capitals < 26;
}

Result<json> word_piece_json(const Metadata& metadata, const Tokens& tokens) {
  json vocab = json::object();
  for (size_t i = 0; i < tokens.texts.size(); ++i)
    if (tokens.types[i] != kUnused && !vocab.emplace(word_piece(tokens.texts[i]), i).second)
      return error(Code::kUnsupported, "token {}: WordPiece has one spelling for it and another token", i);
  const std::string unknown = tokens.special(metadata, "unknown");
  std::string first = tokens.special(metadata, "cls"), last = tokens.special(metadata, "seperator");
  if (first.empty()) first = tokens.special(metadata, "bos");
  if (last.empty()) last = tokens.special(metadata, "eos");
  const bool uncased = is_uncased(tokens);
  return json{{"version", "1.0"},
              {"truncation", nullptr},
              {"padding", nullptr},
              {"added_tokens", added_tokens(tokens)},
              {"normalizer",
               {{"type", "BertNormalizer"},
                {"clean_text", true},
                {"handle_chinese_chars", true},
                {"strip_accents", nullptr},
                {"lowercase", uncased}}},
              {"pre_tokenizer", {{"type", "BertPreTokenizer"}}},
              {"post_processor", template_processing(tokens, first, last)},
              {"decoder", {{"type", "WordPiece"}, {"prefix", "##"}, {"cleanup", true}}},
              {"model",
               {{"type", "WordPiece"},
                {"unk_token", unknown.empty() ? "[UNK]" : unknown},
                {"continuing_subword_prefix", "##"},
                {"max_input_chars_per_word", 100},
                {"vocab", std::move(vocab)}}}};
}

Result<json> tokenizer_config(const Metadata& metadata, const Tokens& tokens, std::string_view model) {
  const bool sentencepiece = model == "llama" || model == "t5";
  json config = {{"tokenizer_class", model == "llama"  ? "LlamaTokenizer"
                                     : model == "t5"   ? "T5Tokenizer"
                                     : model == "bert" ? "BertTokenizer"
                                                       : "PreTrainedTokenizerFast"}};
  if (model == "bert") config["do_lower_case"] = is_uncased(tokens);
  const std::pair<std::string_view, std::string_view> names[] = {
      {"bos", "bos"}, {"eos", "eos"}, {"unk", "unknown"}, {"pad", "padding"},
      {"sep", "seperator"}, {"cls", "cls"}, {"mask", "mask"}};
  for (const auto& [hf, gguf] : names)
    if (const std::string text = tokens.special(metadata, gguf); !text.empty())
      config[fmt::format("{}_token", hf)] = text;
  for (const char* name : {"add_bos_token", "add_eos_token", "add_sep_token"})
    if (const std::string key = fmt::format("tokenizer.ggml.{}", name); metadata.contains(key))
      config[name] = TRY(metadata.get_bool(key));
  if (sentencepiece) {
    config["legacy"] = false;
    config["add_prefix_space"] = TRY(metadata.bool_or("tokenizer.ggml.add_space_prefix", true));
    json& decoder = config["added_tokens_decoder"] = json::object();
    for (size_t i = 0; i < tokens.texts.size(); ++i)
      if (tokens.types[i] == kUserDefined)
        decoder[std::to_string(i)] = {{"content", tokens.texts[i]}, {"special", false}};
  }
  return config;
}

}  // namespace

Result<std::vector<AtomicFile>> write_hf_vocabulary(const Metadata& metadata,
                                                    const std::string& folder) {
  const std::string model = TRY(metadata.get_string("tokenizer.ggml.model"));
  const Tokens tokens = TRY(Tokens::from(metadata));
  std::vector<AtomicFile> files;
  const auto write = [&](std::string_view name, std::string_view text) -> Status {
    files.push_back(TRY(AtomicFile::create(fmt::format("{}/{}", folder, name))));
    return files.back().append(text);
  };
  if (model == "llama" || model == "t5")
    TRY(write("tokenizer.model", TRY(sentencepiece_bytes(metadata, tokens, model == "t5"))));
  else if (model == "bert")
    TRY(write("tokenizer.json", dumped(TRY(word_piece_json(metadata, tokens)))));
  else if (model == "gpt2")
    TRY(write("tokenizer.json", dumped(TRY(byte_level_json(metadata, tokens)))));
  else
    return error(Code::kUnsupported,
                 "a tokenizer of the kind '{}' cannot be written for Hugging Face; "
                 "llama, t5, gpt2 and bert can",
                 model);
  TRY(write("tokenizer_config.json",
            dumped(TRY(tokenizer_config(metadata, tokens, model)))));
  const std::string chat = TRY(metadata.string_or("tokenizer.chat_template", ""));
  if (!chat.empty()) TRY(write("chat_template.jinja", chat));
  return files;
}

}  // namespace venturi
