#include "formats/hf_vocabulary.h"

#include <algorithm>
#include <unordered_map>

#include "base/file.h"
#include "formats/byte_cursor.h"
#include "formats/json_text.h"
#include "formats/sentencepiece_model.h"

namespace venturi {

namespace {

using nlohmann::json;

constexpr uint64_t kMaxFileBytes = 1ull << 28;  // the largest tokenizers are near 40 MB
constexpr std::string_view kSpaceMark = "\u2581";

enum TokenType : int32_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6
};

bool looks_special(std::string_view text) {
  return text == "<pad>" || text == "<mask>" || text == "<2mass>" || text == "[@BOS@]" ||
         (text.starts_with("<|") && text.ends_with("|>")) ||
         (text.starts_with("<｜") && text.ends_with("｜>")) ||
         (text.starts_with("<unused") && text.ends_with(">"));
}

// "<0x0A>", which SentencePiece falls back to.
bool looks_like_byte(std::string_view text) {
  const auto is_hex = [](char c) { return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'F'); };
  return text.size() == 6 && text.starts_with("<0x") && is_hex(text[3]) && is_hex(text[4]) &&
         text[5] == '>';
}

std::string replaced(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  for (size_t at = 0;;) {
    const size_t next = text.find(from, at);
    out += text.substr(at, next - at);
    if (next == std::string_view::npos) return out;
    out += to;
    at = next + from.size();
  }
}

class Vocabulary {
 public:
  Vocabulary(uint64_t n_rows, std::string path) : n_rows_(n_rows), path_(std::move(path)) {}

  // Ids come from outside: only rows that the embedding has are allocated.
  Status put(int64_t id, std::string_view text, float score, int32_t type) {
    if (id < 0 || static_cast<uint64_t>(id) >= n_rows_)
      return error(Code::kCorrupt, "{}: token {} has the id {}, but the embedding has {} rows",
                   path_, shown(text), id, n_rows_);
    if (static_cast<size_t>(id) >= tokens_.size()) resize(static_cast<size_t>(id) + 1);
    tokens_[static_cast<size_t>(id)] = text;
    scores_[static_cast<size_t>(id)] = score;
    types_[static_cast<size_t>(id)] = type;
    return {};
  }

  Status put_added(int64_t id, std::string_view text, bool special) {
    const bool known_unknown = id >= 0 && static_cast<size_t>(id) < types_.size() &&
                               types_[static_cast<size_t>(id)] == kUnknown;
    if (known_unknown) return put(id, text, 0, kUnknown);
    if (special || looks_special(text)) return put(id, text, -1000, kControl);
    return put(id, replaced(text, kSpaceMark, " "), -1000, kUserDefined);
  }

  void write(std::string_view model, std::string_view pre, bool with_scores, Metadata& metadata) {
    resize(n_rows_);
    for (size_t i = 0; i < tokens_.size(); ++i)
      if (types_[i] == kUnused && tokens_[i].empty()) tokens_[i] = fmt::format("[PAD{}]", i);
    metadata.set_string("tokenizer.ggml.model", std::string(model));
    metadata.set_string("tokenizer.ggml.pre", std::string(pre));
    metadata.set_strings("tokenizer.ggml.tokens", tokens_);
    if (with_scores) metadata.set_floats("tokenizer.ggml.scores", scores_);
    metadata.set_ints("tokenizer.ggml.token_type", types_);
  }

  std::vector<std::string>& tokens() { return tokens_; }
  const std::vector<int32_t>& types() const { return types_; }

 private:
  void resize(size_t n) {
    tokens_.resize(n);
    scores_.resize(n, -10000);
    types_.resize(n, kUnused);
  }

  const uint64_t n_rows_;
  const std::string path_;
  std::vector<std::string> tokens_;
  std::vector<float> scores_;
  std::vector<int32_t> types_;
};

// What tokenizer_config.json and its neighbours say, whatever the scheme.
struct Settings {
  HfConfig config;     // config.json
  HfConfig tokenizer;  // tokenizer_config.json
  std::string folder;
};

// --- tokenizer.model
// -------------------------------------------------------------------------------

Status put_added_files(const Settings& settings, Vocabulary& vocabulary) {
  const std::string path = settings.folder + "/added_tokens.json";
  auto added = read_json_file(path, kMaxFileBytes);
  if (!added.ok() && added.error().code != Code::kNotFound) return std::move(added).error();
  if (added.ok())
    for (const auto& [text, id] : added->items()) {
      if (!id.is_number_unsigned() || id.get<uint64_t>() > INT32_MAX)
        return error(Code::kCorrupt, "{}: {}: expected an id below 2^31", path, shown(text));
      TRY(vocabulary.put(id.get<int64_t>(), text, -1000, kUserDefined));
    }
  const HfConfig decoder = TRY(settings.tokenizer.object("added_tokens_decoder"));
  for (const auto& [key, entry] : decoder.json().items()) {
    const bool digits =
        !key.empty() && key.size() < 10 &&
        std::all_of(key.begin(), key.end(), [](char c) { return c >= '0' && c <= '9'; });
    const auto content = entry.is_object() ? entry.find("content") : entry.end();
    if (!digits || !entry.is_object() || content == entry.end() || !content->is_string())
      return error(Code::kCorrupt,
                   "{}: added_tokens_decoder {}: expected a number and an object with a "
                   "content",
                   decoder.path(), shown(key));
    const auto special = entry.find("special");
    TRY(vocabulary.put_added(
        std::stoll(key), content->get<std::string>(),
        special != entry.end() && special->is_boolean() && special->get<bool>()));
  }
  return {};
}

void set_id(Metadata& metadata, std::string_view name, int64_t id) {
  const std::string key = fmt::format("tokenizer.ggml.{}_token_id", name);
  if (id >= 0 && !metadata.contains(key)) metadata.set_uint(key, static_cast<uint64_t>(id));
}

void set_charsmap(Metadata& metadata, std::string_view bytes) {
  if (bytes.empty()) return;
  metadata.set("tokenizer.ggml.precompiled_charsmap",
               {MetaType::kArray, MetaArray{MetaType::kU8, bytes.size(), std::string(bytes)}});
}

Status set_sentencepiece(const Settings& settings, const SentencePieceModel& model, uint64_t n_rows,
                         Metadata& metadata) {
  Vocabulary vocabulary(n_rows, settings.folder + "/tokenizer.model");
  int64_t id = 0;
  for (const SentencePiece& piece : model.pieces)
    TRY(vocabulary.put(id++, piece.text, piece.score, static_cast<int32_t>(piece.type)));
  TRY(put_added_files(settings, vocabulary));
  vocabulary.write(model.is_bpe ? "llama" : "t5", "default", true, metadata);
  metadata.set_bool(
      "tokenizer.ggml.add_space_prefix",
      TRY(settings.tokenizer.flag({"add_prefix_space"})).value_or(model.add_dummy_prefix));
  if (!model.is_bpe || model.remove_extra_whitespaces)
    metadata.set_bool("tokenizer.ggml.remove_extra_whitespaces", model.remove_extra_whitespaces);
  if (!model.is_bpe) set_charsmap(metadata, model.charsmap);
  return {};
}

// --- tokenizer.json
// --------------------------------------------------------------------------------

const json* child(const json& parent, std::string_view name) {
  if (!parent.is_object()) return nullptr;
  const auto it = parent.find(name);
  return it == parent.end() || it->is_null() ? nullptr : &*it;
}

std::string text_of(const json* value) {
  return value && value->is_string() ? value->get<std::string>() : std::string();
}

// Calls visit(step) on a normaliser, pre-tokenizer, decoder or post-processor, or on each of a
// Sequence.
template <typename Visit>
void for_each_step(const json* step, std::string_view list, Visit&& visit, int depth = 0) {
  if (!step || !step->is_object() || depth > 8) return;
  const json* parts = child(*step, list);
  if (text_of(child(*step, "type")) == "Sequence" && parts && parts->is_array()) {
    for (const json& part : *parts) for_each_step(&part, list, visit, depth + 1);
  } else {
    visit(*step, text_of(child(*step, "type")));
  }
}

bool is_byte_level(const TokenizerJson& tokenizer) {
  bool found = false;
  const auto look = [&](const json&, const std::string& type) { found |= type == "ByteLevel"; };
  for_each_step(child(tokenizer.rest, "pre_tokenizer"), "pretokenizers", look);
  for_each_step(child(tokenizer.rest, "decoder"), "decoders", look);
  return found;
}

// Whether the text gets a space in front: a Prepend normaliser, or a Metaspace pre-tokenizer.
bool adds_space(const TokenizerJson& tokenizer) {
  bool found = false;
  for_each_step(child(tokenizer.rest, "normalizer"), "normalizers",
                [&](const json&, const std::string& type) { found |= type == "Prepend"; });
  for_each_step(child(tokenizer.rest, "pre_tokenizer"), "pretokenizers",
                [&](const json& step, const std::string& type) {
                  if (type != "Metaspace") return;
                  const json* flag = child(step, "add_prefix_space");
                  const std::string scheme = text_of(child(step, "prepend_scheme"));
                  found |= scheme.empty() ? !flag || *flag == true : scheme != "never";
                });
  return found;
}

// Pieces, then added tokens; `typed` gives the type of a piece that was not added.
template <typename Typed>
Status put_pieces(const TokenizerJson& tokenizer, const std::vector<float>& scores, Typed&& typed,
                  Vocabulary& vocabulary) {
  for (size_t i = 0; i < tokenizer.pieces.size(); ++i)
    TRY(vocabulary.put(tokenizer.ids[i], tokenizer.pieces[i], i < scores.size() ? scores[i] : 0,
                       typed(tokenizer.pieces[i], tokenizer.ids[i])));
  for (const AddedToken& token : tokenizer.added)
    TRY(vocabulary.put_added(token.id, token.content, token.special));
  return {};
}

// GGUF joins the two pieces of a merge by a space, so a space inside is written as byte-level BPE
// does.
void set_merges(const TokenizerJson& tokenizer, Metadata& metadata) {
  std::vector<std::string> merges;
  merges.reserve(tokenizer.merge_left.size());
  for (size_t i = 0; i < tokenizer.merge_left.size(); ++i)
    merges.push_back(replaced(tokenizer.merge_left[i], " ", "Ġ") + " " +
                     replaced(tokenizer.merge_right[i], " ", "Ġ"));
  metadata.set_strings("tokenizer.ggml.merges", merges);
}

// The one thing that a byte-level tokenizer does to a text beforehand here: a Unicode normal form.
Status set_normal_form(const TokenizerJson& tokenizer, const std::string& path, Metadata& metadata) {
  std::string form, other;
  for_each_step(child(tokenizer.rest, "normalizer"), "normalizers",
                [&](const json&, const std::string& type) {
                  const bool known = type == "NFC" || type == "NFD" || type == "NFKC" || type == "NFKD";
                  (known && (form.empty() || form == type) ? form : other) = type;
                });
  if (!other.empty())
    return error(Code::kUnsupported,
                 "{}: a normalizer of type {} is not known for byte-level BPE; NFC, NFD, NFKC or NFKD is", path,
                 shown(other));
  if (!form.empty()) metadata.set_string("tokenizer.venturi.normal_form", form);
  return {};
}

Status set_byte_level(const Settings& settings, const TokenizerJson& tokenizer,
                      Vocabulary& vocabulary, Metadata& metadata) {
  const std::string path = settings.folder + "/tokenizer.json";
  const std::string pre = TRY(hf_pre_tokenizer_name(tokenizer, path));
  TRY(put_pieces(
      tokenizer, {}, [](std::string_view, int64_t) { return kNormal; }, vocabulary));
  vocabulary.write("gpt2", pre, false, metadata);
  TRY(set_normal_form(tokenizer, path, metadata));
  set_merges(tokenizer, metadata);
  return {};
}

// SentencePiece's BPE in the clothes of tokenizer.json. What SentencePiece keeps as a score is the
// rank of the first merge that makes the piece.
Status set_spaced_bpe(const TokenizerJson& tokenizer, Vocabulary& vocabulary, Metadata& metadata) {
  std::unordered_map<std::string, float> rank;
  rank.reserve(tokenizer.merge_left.size());
  for (size_t i = 0; i < tokenizer.merge_left.size(); ++i)
    rank.try_emplace(std::string(tokenizer.merge_left[i]).append(tokenizer.merge_right[i]),
                     static_cast<float>(i));
  std::vector<float> scores;
  for (size_t i = 0; i < tokenizer.pieces.size(); ++i) {
    const auto it = rank.find(std::string(tokenizer.pieces[i]));
    scores.push_back(it == rank.end() ? 0.f : -it->second);
  }
  const std::string unknown = text_of(child(tokenizer.rest.at("model"), "unk_token"));
  const auto typed = [&](std::string_view piece, int64_t) {
    if (!unknown.empty() && piece == unknown) return kUnknown;
    return looks_like_byte(piece) ? kByte : kNormal;
  };
  TRY(put_pieces(tokenizer, scores, typed, vocabulary));
  vocabulary.write("llama", "default", true, metadata);
  metadata.set_bool("tokenizer.ggml.add_space_prefix", adds_space(tokenizer));
  return {};
}

std::optional<std::string> base64_decoded(std::string_view text) {
  static constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  uint32_t bits = 0;
  int n_bits = 0;
  for (const char c : text) {
    if (c == '=') break;
    const size_t digit = kDigits.find(c);
    if (digit == std::string_view::npos) return std::nullopt;
    bits = bits << 6 | static_cast<uint32_t>(digit);
    n_bits += 6;
    if (n_bits < 8) continue;
    n_bits -= 8;
    out += static_cast<char>(bits >> n_bits & 0xff);
  }
  return out;
}

Status set_unigram(const Settings& settings, const TokenizerJson& tokenizer, Vocabulary& vocabulary,
                   Metadata& metadata) {
  const json* unknown = child(tokenizer.rest.at("model"), "unk_id");
  const int64_t unknown_id =
      unknown && unknown->is_number_unsigned() && unknown->get<uint64_t>() < INT32_MAX
          ? unknown->get<int64_t>()
          : -1;
  const std::vector<float> scores(tokenizer.scores.begin(), tokenizer.scores.end());
  const auto typed = [&](std::string_view piece, int64_t id) {
    if (id == unknown_id) return kUnknown;
    return looks_like_byte(piece) ? kByte : kNormal;
  };
  TRY(put_pieces(tokenizer, scores, typed, vocabulary));
  vocabulary.write("t5", "default", true, metadata);
  set_id(metadata, "unknown", unknown_id);
  metadata.set_bool("tokenizer.ggml.add_space_prefix", adds_space(tokenizer));
  bool bad_map = false, strips = false;
  for_each_step(child(tokenizer.rest, "normalizer"), "normalizers",
                [&](const json& step, const std::string& type) {
                  strips |= type == "Replace" || type == "Strip";
                  if (type != "Precompiled") return;
                  const auto map = base64_decoded(text_of(child(step, "precompiled_charsmap")));
                  if (map)
                    set_charsmap(metadata, *map);
                  else
                    bad_map = true;
                });
  if (bad_map)
    return error(Code::kCorrupt, "{}/tokenizer.json: precompiled_charsmap is not base64",
                 settings.folder);
  metadata.set_bool("tokenizer.ggml.remove_extra_whitespaces", strips);
  return {};
}

// GGUF spells WordPiece with a mark on the pieces that begin a word and none on those that continue
// it.
Status set_word_piece(const TokenizerJson& tokenizer, Vocabulary& vocabulary, Metadata& metadata) {
  TRY(put_pieces(
      tokenizer, {}, [](std::string_view, int64_t) { return kNormal; }, vocabulary));
  std::string prefix = text_of(child(tokenizer.rest.at("model"), "continuing_subword_prefix"));
  if (prefix.empty()) prefix = "##";
  for (std::string& token : vocabulary.tokens()) {
    if (token.empty() || (token.starts_with('[') && token.ends_with(']'))) continue;
    token =
        token.starts_with(prefix) ? token.substr(prefix.size()) : std::string(kSpaceMark) + token;
  }
  vocabulary.write("bert", "bert-bge", false, metadata);
  return {};
}

// BOS and EOS that the post-processor puts around a text.
void set_added_ends(const TokenizerJson& tokenizer, Metadata& metadata) {
  bool first = false, last = false;
  const auto is_special = [](const json& part) { return child(part, "SpecialToken") != nullptr; };
  for_each_step(
      child(tokenizer.rest, "post_processor"), "processors",
      [&](const json& step, const std::string& type) {
        const json* single = child(step, "single");
        if (type != "TemplateProcessing" || !single || !single->is_array() || single->empty())
          return;
        first |= is_special(single->front());
        last |= is_special(single->back());
      });
  if (!metadata.contains("tokenizer.ggml.add_bos_token"))
    metadata.set_bool("tokenizer.ggml.add_bos_token", first);
  if (!metadata.contains("tokenizer.ggml.add_eos_token"))
    metadata.set_bool("tokenizer.ggml.add_eos_token", last);
}

Status set_from_json(const Settings& settings, uint64_t n_rows, Metadata& metadata) {
  const std::string path = settings.folder + "/tokenizer.json";
  TokenizerJson tokenizer;
  {
    const std::string text = TRY(read_regular_file(path, kMaxFileBytes));
    tokenizer = TRY(parse_tokenizer_json(text, path));
  }
  Vocabulary vocabulary(n_rows, path);
  if (tokenizer.type == "BPE" && is_byte_level(tokenizer))
    TRY(set_byte_level(settings, tokenizer, vocabulary, metadata));
  else if (tokenizer.type == "BPE")
    TRY(set_spaced_bpe(tokenizer, vocabulary, metadata));
  else if (tokenizer.type == "Unigram")
    TRY(set_unigram(settings, tokenizer, vocabulary, metadata));
  else if (tokenizer.type == "WordPiece")
    TRY(set_word_piece(tokenizer, vocabulary, metadata));
  else
    return error(Code::kUnsupported, "{}: model type {}; known are BPE, Unigram and WordPiece",
                 path, shown(tokenizer.type));
  // WordPiece's ends are CLS and SEP, which the scheme itself adds.
  if (tokenizer.type != "WordPiece") set_added_ends(tokenizer, metadata);
  return {};
}

// --- what both share
// -------------------------------------------------------------------------------

Error wrong_type(const HfConfig& config, std::string_view field, std::string_view expected) {
  return error(Code::kCorrupt, "{}: field '{}': expected {}, found {}", config.path(), field, expected,
               shown(config.find(field)->dump(-1, ' ', false, json::error_handler_t::replace)));
}

// "bos_token" may be a string, an object with "content", or false for none.
Result<std::string> special_text(const HfConfig& tokenizer, std::string_view name) {
  const json* value = tokenizer.find(name);
  if (!value || *value == false) return std::string();
  const json* text = value->is_object() ? child(*value, "content") : value;
  if (!text || !text->is_string()) return wrong_type(tokenizer, name, "a string or an object with a content");
  return text->get<std::string>();
}

// The id that a config states, the first of a list; nothing where it states none or says -1 for that. Of those
// that text is made with, one outside the vocabulary is an error, others are left out.
Result<std::optional<int64_t>> stated_id(const HfConfig& config, const std::string& field, bool matters, uint64_t n_rows) {
  const json* value = config.find(field);
  std::optional<int64_t> first;
  if (!value) return first;
  const json list = value->is_array() ? *value : json::array({*value});
  for (const json& id : list) {
    const bool good = id.is_number_integer() && id >= 0 && id.get<uint64_t>() < n_rows;
    if (good && !first) first = id.get<int64_t>();
    if (!good && matters && id != -1)
      return wrong_type(config, field, fmt::format("a token of the {} in the vocabulary, or a list of them", n_rows));
  }
  return first;
}

struct SpecialName {
  std::string_view hf, gguf;
};
constexpr SpecialName kSpecials[] = {{"bos", "bos"},       {"eos", "eos"},     {"unk", "unknown"},
                                     {"sep", "seperator"}, {"pad", "padding"}, {"cls", "cls"},
                                     {"mask", "mask"}};

// Ids from tokenizer_config.json's texts, else from config.json. An id may be a list: its first.
Status set_special_ids(const Settings& settings, const HfConfig& generation, uint64_t n_rows,
                       Metadata& metadata) {
  const auto tokens = TRY(metadata.get_strings("tokenizer.ggml.tokens"));
  std::unordered_map<std::string_view, int64_t> ids;
  for (size_t i = 0; i < tokens.size(); ++i) ids.try_emplace(tokens[i], static_cast<int64_t>(i));
  for (const SpecialName& special : kSpecials) {
    const std::string text = TRY(special_text(settings.tokenizer, fmt::format("{}_token", special.hf)));
    const bool matters = special.hf == "bos" || special.hf == "eos";
    if (const auto it = ids.find(text); !text.empty() && it != ids.end())
      set_id(metadata, special.gguf, it->second);
    for (const HfConfig* config : {&settings.config, &generation}) {
      const auto id = TRY(stated_id(*config, fmt::format("{}_token_id", special.hf), matters, n_rows));
      if (id) set_id(metadata, special.gguf, *id);
    }
  }
  return {};
}

Status set_added_flags(const Settings& settings, Metadata& metadata) {
  for (const char* name : {"bos", "eos", "sep"}) {
    const std::string field = fmt::format("add_{}_token", name);
    if (const auto value = TRY(settings.tokenizer.flag({field}))) metadata.set_bool("tokenizer.ggml." + field, *value);
  }
  return {};
}

// One order, whichever file said them: a model that goes to Hugging Face and back is the same file.
void order_added_flags(Metadata& metadata) {
  for (const char* name : {"bos", "eos", "sep"}) {
    const std::string key = fmt::format("tokenizer.ggml.add_{}_token", name);
    const auto value = metadata.get_bool(key);
    if (!value.ok()) continue;
    metadata.erase(key);
    metadata.set_bool(key, *value);
  }
}

// chat_template.jinja, else tokenizer_config.json's "chat_template": a string, or a list of named
// ones of which "default" is the template.
Status set_chat_template(const Settings& settings, Metadata& metadata) {
  auto file = read_regular_file(settings.folder + "/chat_template.jinja", 1 << 24);
  if (file.ok()) {
    metadata.set_string("tokenizer.chat_template", std::move(*file));
    return {};
  }
  if (file.error().code != Code::kNotFound) return std::move(file).error();
  const json* value = settings.tokenizer.find("chat_template");
  if (!value) return {};
  if (value->is_string()) {
    metadata.set_string("tokenizer.chat_template", value->get<std::string>());
    return {};
  }
  if (!value->is_array()) return wrong_type(settings.tokenizer, "chat_template", "a string or a list of named ones");
  std::vector<std::string> names;
  for (const json& entry : *value) {
    const std::string name = text_of(child(entry, "name")),
                      text = text_of(child(entry, "template"));
    if (name.empty() || name.size() > 64 || text.empty()) continue;
    if (name == "default") {
      metadata.set_string("tokenizer.chat_template", text);
    } else {
      metadata.set_string("tokenizer.chat_template." + name, text);
      names.push_back(name);
    }
  }
  if (!names.empty()) metadata.set_strings("tokenizer.chat_templates", names);
  return {};
}

Result<HfConfig> optional_config(const std::string& path) {
  auto file = read_json_file(path, kMaxFileBytes);
  if (!file.ok() && file.error().code == Code::kNotFound) return HfConfig(json::object(), path);
  if (!file.ok()) return std::move(file).error();
  return HfConfig(std::move(*file), path);
}

// tokenizer.model if it is there and is SentencePiece's (some folders keep a tiktoken file under
// that name, beside a tokenizer.json), else tokenizer.json.
// Gives the ids that tokenizer.model itself names, for when no config does.
using NamedIds = std::vector<std::pair<std::string_view, int64_t>>;
Result<NamedIds> set_pieces(const Settings& settings, uint64_t n_rows, Metadata& metadata) {
  const std::string path = settings.folder + "/tokenizer.model";
  const auto bytes = read_regular_file(path, kMaxFileBytes);
  if (!bytes.ok() && bytes.error().code != Code::kNotFound) return bytes.error();
  std::optional<Error> problem;
  if (bytes.ok()) {
    const auto model = parse_sentencepiece_model(*bytes, path);
    if (model.ok()) {
      TRY(set_sentencepiece(settings, *model, n_rows, metadata));
      return NamedIds{{"bos", model->bos_id},
                      {"eos", model->eos_id},
                      {"unknown", model->unk_id},
                      {"padding", model->pad_id}};
    }
    problem = model.error();
  }
  Status status = set_from_json(settings, n_rows, metadata);
  if (status.ok()) return NamedIds();
  if (status.error().code != Code::kNotFound) return std::move(status).error();
  if (problem) return *problem;
  return error(Code::kNotFound, "{}: expected a tokenizer.json or a tokenizer.model",
               settings.folder);
}

}  // namespace

Status set_hf_vocabulary(const std::string& folder, const HfConfig& config, uint64_t n_rows,
                         Metadata& metadata) {
  const HfConfig of_tokenizer = TRY(optional_config(folder + "/tokenizer_config.json"));
  const Settings settings{config, of_tokenizer, folder};
  const HfConfig generation = TRY(optional_config(folder + "/generation_config.json"));
  TRY(set_added_flags(settings, metadata));
  const NamedIds fallback = TRY(set_pieces(settings, n_rows, metadata));
  TRY(set_special_ids(settings, generation, n_rows, metadata));
  for (const auto& [name, id] : fallback) set_id(metadata, name, id);
  order_added_flags(metadata);
  return set_chat_template(settings, metadata);
}

}  // namespace venturi
