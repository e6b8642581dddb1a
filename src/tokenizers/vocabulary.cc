#include "tokenizers/vocabulary.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <tuple>

namespace venturi {

namespace {

constexpr std::string_view kTokens = "tokenizer.ggml.tokens";
constexpr std::string_view kTypes = "tokenizer.ggml.token_type";
constexpr std::string_view kScores = "tokenizer.ggml.scores";

// Tokens that end a turn or a text in the families we know. Files often mark them as ordinary; they
// are control tokens all the same.
constexpr std::string_view kEndOfTurn[] = {
    "<|eot_id|>", "<|im_end|>", "<|end|>",       "<end_of_turn>",
    "<EOT>",      "<turn|>",    "<|endoftext|>", "<｜end▁of▁sentence｜>"};
constexpr std::string_view kEndOfGeneration[] = {
    "<|eom_id|>", "<|end_of_text|>", "<end_of_utterance>", "<|return|>", "<|call|>",
    "<|calls|>",  "<|flush|>",       "<|fim_pad|>",        "<fim-pad>",  "<fim_pad>",
    "<PAD>",      "<|fim_repo|>",    "<|repo_name|>",      "<fim-repo>", "<REPO>",
    "<reponame>", "<|file_sep|>"};
constexpr std::string_view kFillInMiddle[] = {
    "<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<｜fim▁begin｜>", "<PRE>",
    "<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<｜fim▁hole｜>",  "<SUF>",
    "<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<｜fim▁end｜>",   "<MID>"};

std::optional<int> hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return std::nullopt;
}

// "<0x41>" and nothing else: no sign, no space, two digits.
std::optional<uint8_t> parse_hex_byte(std::string_view text) {
  if (text.size() != 6 || text.substr(0, 3) != "<0x" || text[5] != '>') return std::nullopt;
  const auto high = hex_digit(text[3]), low = hex_digit(text[4]);
  if (!high || !low) return std::nullopt;
  return static_cast<uint8_t>(*high << 4 | *low);
}

Result<TokenKind> kind_from(int64_t type, size_t at) {
  if (type == 0) return TokenKind::kUnused;  // "undefined" in the specification
  if (type >= 1 && type <= 6) return static_cast<TokenKind>(type);
  return error(Code::kCorrupt, "{}[{}] is {}; expected 0 to 6", kTypes, at, type);
}

}  // namespace

void TokenIndex::build(size_t n_tokens) {
  size_t n = 16;
  while (n < 2 * n_tokens) n *= 2;
  slots_.assign(n, -1);
}

void TokenIndex::insert(const Vocabulary& vocab, TokenId id) {
  const std::string_view text = vocab.text(id);
  if (text.empty()) return;
  size_t at = std::hash<std::string_view>()(text) & (slots_.size() - 1);
  for (; slots_[at] >= 0; at = (at + 1) & (slots_.size() - 1)) {
    if (vocab.text(slots_[at]) != text) continue;
    const bool better =
        Vocabulary::is_textual(vocab.kind(id)) && !Vocabulary::is_textual(vocab.kind(slots_[at]));
    if (!better) return;
    break;
  }
  slots_[at] = id;
}

std::optional<TokenId> TokenIndex::find(const Vocabulary& vocab, std::string_view text) const {
  if (text.empty() || slots_.empty()) return std::nullopt;
  size_t at = std::hash<std::string_view>()(text) & (slots_.size() - 1);
  for (; slots_[at] >= 0; at = (at + 1) & (slots_.size() - 1))
    if (vocab.text(slots_[at]) == text) return slots_[at];
  return std::nullopt;
}

Result<std::unique_ptr<Vocabulary>> Vocabulary::read(const Metadata& metadata,
                                                     const SchemeDefaults& defaults) {
  auto vocab = std::make_unique<Vocabulary>();
  if (auto status = vocab->read_tokens(metadata, defaults); !status.ok())
    return std::move(status).error();
  vocab->index_.build(vocab->kinds_.size());
  for (TokenId id = 0; id < vocab->size(); ++id) vocab->index_.insert(*vocab, id);
  if (auto status = vocab->read_byte_tokens(defaults); !status.ok())
    return std::move(status).error();
  if (auto status = vocab->read_specials(metadata, defaults); !status.ok())
    return std::move(status).error();
  vocab->name_controls();
  return vocab;
}

Status Vocabulary::read_tokens(const Metadata& metadata, const SchemeDefaults& defaults) {
  const auto tokens = TRY(metadata.get_strings(kTokens));
  const size_t n = tokens.size();
  if (n == 0 || n > (1u << 30))
    return error(Code::kCorrupt, "{} has {} entries; expected 1 to {}", kTokens, n, 1u << 30);
  begins_.push_back(0);
  for (const auto token : tokens) {
    texts_ += token;
    begins_.push_back(texts_.size());
    longest_text_ = std::max(longest_text_, token.size());
  }

  kinds_.assign(n, TokenKind::kNormal);
  if (metadata.contains(kTypes)) {
    const auto types = TRY(metadata.get_ints(kTypes));
    if (types.size() != n)
      return error(Code::kCorrupt, "{} has {} entries, {} has {}; expected as many", kTypes,
                   types.size(), kTokens, n);
    for (size_t i = 0; i < n; ++i) kinds_[i] = TRY(kind_from(types[i], i));
  } else if (defaults.hex_bytes) {
    for (size_t i = 0; i < n; ++i)
      if (parse_hex_byte(tokens[i])) kinds_[i] = TokenKind::kByte;
  }

  if (defaults.needs_scores || metadata.contains(kScores)) {
    scores_ = TRY(metadata.get_floats(kScores));
    if (scores_.size() != n)
      return error(Code::kCorrupt, "{} has {} entries, {} has {}; expected as many", kScores,
                   scores_.size(), kTokens, n);
    for (size_t i = 0; i < n; ++i)
      if (std::isnan(scores_[i]))
        return error(Code::kCorrupt, "{}[{}] is not a number", kScores, i);
  }
  return {};
}

Status Vocabulary::read_byte_tokens(const SchemeDefaults& defaults) {
  byte_tokens_.fill(-1);
  if (!defaults.hex_bytes) return {};
  for (TokenId id = 0; id < size(); ++id) {
    if (kinds_[id] == TokenKind::kByte && !parse_hex_byte(text(id)))
      return error(Code::kCorrupt,
                   "{}[{}] is '{}' and a byte token by {}; expected <0x00> to <0xFF>", kTokens, id,
                   text(id), kTypes);
    // Files whose types call byte tokens ordinary are read, too; the first of each byte counts.
    if (const auto byte = parse_hex_byte(text(id)); byte && byte_tokens_[*byte] < 0)
      byte_tokens_[*byte] = id;
  }
  for (int byte = 0; byte < 256; ++byte) {
    const char raw = static_cast<char>(byte);
    if (byte_tokens_[byte] < 0) byte_tokens_[byte] = find_textual({&raw, 1}).value_or(-1);
  }
  return {};
}

Status Vocabulary::read_specials(const Metadata& metadata, const SchemeDefaults& defaults) {
  const auto read = [&](std::string_view name, std::optional<TokenId>& id,
                        std::optional<TokenId> otherwise) -> Status {
    const std::string key = fmt::format("tokenizer.ggml.{}_token_id", name);
    if (metadata.contains(key)) {
      const int64_t value = TRY(metadata.get_int(key));
      if (value < 0 || value >= size())
        return error(Code::kCorrupt, "{} is {}; the vocabulary has {} tokens", key, value, size());
      id = static_cast<TokenId>(value);
    } else if (otherwise && contains(*otherwise)) {
      id = otherwise;
    }
    return {};
  };
  std::optional<TokenId> cls, eom, separator;
  for (auto [name, id, otherwise] : {std::tuple{"bos", &bos, defaults.bos},
                                     {"eos", &eos, defaults.eos},
                                     {"unknown", &unk, defaults.unk},
                                     {"seperator", &sep, defaults.sep},
                                     {"separator", &separator, {}},
                                     {"cls", &cls, {}},
                                     {"eot", &eot, {}},
                                     {"eom", &eom, {}}}) {
    if (auto status = read(name, *id, otherwise); !status.ok()) return status;
  }
  // GGUF's own key is misspelt; some writers correct it.
  if (separator && !metadata.contains("tokenizer.ggml.seperator_token_id")) sep = separator;
  if (cls && !metadata.contains("tokenizer.ggml.bos_token_id")) bos = cls;
  for (const auto& id : {eos, eot, eom})
    if (id) end_ids_.push_back(*id);

  add_bos = TRY(metadata.bool_or("tokenizer.ggml.add_bos_token", defaults.add_bos));
  add_eos = TRY(metadata.bool_or("tokenizer.ggml.add_eos_token", defaults.add_eos));
  add_sep = TRY(metadata.bool_or("tokenizer.ggml.add_sep_token", defaults.add_sep));
  // Without token types nothing else says that these are not text.
  if (!metadata.contains(kTypes))
    for (const auto& id : {bos, eos, sep})
      if (id) kinds_[*id] = TokenKind::kControl;
  return {};
}

void Vocabulary::name_controls() {
  const auto control = [&](std::string_view name) -> std::optional<TokenId> {
    const auto id = find(name);
    if (id) kinds_[*id] = TokenKind::kControl;
    return id;
  };
  for (const auto name : kFillInMiddle) control(name);
  for (const auto name : kEndOfTurn) {
    const auto id = control(name);
    if (!id) continue;
    if (!eot) eot = id;
    end_ids_.push_back(*id);
  }
  for (const auto name : kEndOfGeneration)
    if (const auto id = control(name)) end_ids_.push_back(*id);
  // Where a message has several parts, "<|end|>" closes a part, and these close the turn.
  const auto end = find("<|end|>");
  if (end && (find("<|call|>") || find("<|calls|>")) && (find("<|return|>") || find("<|flush|>"))) {
    std::erase(end_ids_, *end);
    if (eot == end) eot.reset();
  }
  std::sort(end_ids_.begin(), end_ids_.end());
}

std::optional<TokenId> Vocabulary::find_textual(std::string_view text) const {
  const auto id = find(text);
  return id && is_textual(kinds_[*id]) ? id : std::nullopt;
}

std::optional<uint8_t> Vocabulary::byte_of(TokenId id) const {
  return kinds_[id] == TokenKind::kByte ? parse_hex_byte(text(id)) : std::nullopt;
}

bool Vocabulary::is_end_of_generation(TokenId id) const {
  return std::binary_search(end_ids_.begin(), end_ids_.end(), id);
}

}  // namespace venturi
