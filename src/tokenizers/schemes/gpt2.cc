// "gpt2": byte-level BPE. Sennrich et al., "Neural machine translation of rare words with subword
// units" (2016), over bytes as in Radford et al., "Language models are unsupervised multitask
// learners" (2019).
//
// The vocabulary spells every byte as one printable code point; merges are pairs of such spellings
// in order of rank. A text is cut into words by the pre-tokenizer, a word into bytes, and the bytes
// are merged. A merge may name a string that is no token: it works as a step on the way to one, and
// if it remains at the end, its bytes are written instead. A byte without a token becomes the
// unknown token where one is marked as such and is dropped where none is.
#include <algorithm>
#include <array>
#include <unordered_map>

#include "tokenizers/merge.h"
#include "tokenizers/normal_form.h"
#include "tokenizers/pre_tokenizer.h"
#include "tokenizers/scheme.h"
#include "tokenizers/utf8.h"
#include "tokenizers/word_memo.h"

namespace venturi {

namespace {

constexpr std::string_view kPre = "tokenizer.ggml.pre";
constexpr std::string_view kMerges = "tokenizer.ggml.merges";
// A chain of patterns given outright, for tokenizers that no name stands for.
constexpr std::string_view kPatterns = "tokenizer.venturi.split_patterns";
constexpr std::string_view kWholeWords = "tokenizer.venturi.whole_words";
// The normal form that a tokenizer.json asks for. Files of others do not say it and are not normalised, as
// their engines do not.
constexpr std::string_view kNormalForm = "tokenizer.venturi.normal_form";

// Printable Latin-1 stands for itself; the other bytes follow from U+0100 on.
struct ByteSpelling {
  std::array<uint32_t, 256> code_point;
  std::array<int16_t, 512> byte;  // of a code point; -1 if it spells none

  ByteSpelling() {
    byte.fill(-1);
    uint32_t next = 256;
    for (uint32_t b = 0; b < 256; ++b) {
      const bool printable =
          (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || (b >= 0xAE && b <= 0xFF);
      code_point[b] = printable ? b : next++;
      byte[code_point[b]] = static_cast<int16_t>(b);
    }
  }
};

const ByteSpelling& spelling() {
  static const ByteSpelling instance;
  return instance;
}

std::string spell(std::string_view bytes) {
  std::string out;
  for (const char c : bytes) append_utf8(spelling().code_point[static_cast<uint8_t>(c)], out);
  return out;
}

// What does not spell a byte stands for itself: files keep such tokens as ordinary ones, too.
std::string unspell(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = decode_utf8(text, at);
    const size_t length = c.length == 0 ? 1 : c.length;
    if (c.length != 0 && c.value < 512 && spelling().byte[c.value] >= 0) {
      out += static_cast<char>(spelling().byte[c.value]);
    } else {
      out += text.substr(at, length);
    }
    at += length;
  }
  return out;
}

// (left id, right id) -> merge, open addressing.
class PairTable {
 public:
  void reserve(size_t n) {
    size_t slots = 16;
    while (slots < 2 * n) slots *= 2;
    slots_.assign(slots, {});
  }
  // Of equal pairs the first stays.
  void insert(int32_t left, int32_t right, PairMerge merge) {
    Slot& slot = slots_[locate(left, right)];
    if (slot.key == kFree) slot = {key_of(left, right), merge};
  }
  PairMerge find(int32_t left, int32_t right) const { return slots_[locate(left, right)].merge; }

 private:
  static constexpr uint64_t kFree = ~uint64_t{0};
  struct Slot {
    uint64_t key = kFree;
    PairMerge merge;
  };
  static uint64_t key_of(int32_t left, int32_t right) {
    return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
  }
  size_t locate(int32_t left, int32_t right) const {
    const uint64_t key = key_of(left, right);
    size_t at = (key * 0x9E3779B97F4A7C15ull >> 20) & (slots_.size() - 1);
    while (slots_[at].key != key && slots_[at].key != kFree) at = (at + 1) & (slots_.size() - 1);
    return at;
  }
  std::vector<Slot> slots_;
};

class ByteLevelBpe : public Scheme {
 public:
  ByteLevelBpe(const Vocabulary& vocab, PreTokenizer pre_tokenizer, bool whole_words, NormalForm form)
      : vocab_(vocab), pre_tokenizer_(std::move(pre_tokenizer)), whole_words_(whole_words), form_(form) {
    // Some files name their end of text as the unknown token: no byte may write that.
    if (vocab.unk && vocab.kind(*vocab.unk) == TokenKind::kUnknown) unknown_ = vocab.unk;
  }

  Status read_merges(const std::vector<std::string_view>& merges) {
    for (uint32_t byte = 0; byte < 256; ++byte) {
      const char c = static_cast<char>(byte);
      byte_symbols_[byte] = symbol(spell({&c, 1}));
    }
    pairs_.reserve(merges.size());
    for (size_t i = 0; i < merges.size(); ++i) {
      const size_t space = merges[i].find(' ', 1);  // a part may begin with a space
      if (space == std::string_view::npos || space + 1 == merges[i].size())
        return error(Code::kCorrupt, "{}[{}] is '{}'; expected two parts with a space between",
                     kMerges, i, merges[i]);
      const std::string left(merges[i].substr(0, space)), right(merges[i].substr(space + 1));
      const int32_t left_id = symbol(left), right_id = symbol(right);
      pairs_.insert(left_id, right_id, {static_cast<uint32_t>(i), symbol(left + right)});
    }
    step_ids_.clear();
    return {};
  }

  void encode(std::string_view text, bool, std::vector<TokenId>& out) const override {
    if (form_ == NormalForm::kNone) return encode_normal(text, out);
    encode_normal(to_normal_form(text, form_), out);
  }

  size_t most_bytes_per_token() const override {
    const bool drops = !unknown_ && std::any_of(byte_symbols_.begin(), byte_symbols_.end(), [&](int32_t id) { return id >= vocab_.size(); });
    return drops || form_ != NormalForm::kNone ? 0 : vocab_.longest_text();
  }
  std::string piece(TokenId id) const override { return unspell(vocab_.text(id)); }

 private:
  static constexpr size_t kLongestWord = size_t{1} << 30;  // offsets inside a word are 32 bits

  void encode_normal(std::string_view text, std::vector<TokenId>& out) const {
    std::vector<size_t> ends;
    pre_tokenizer_.split(text, ends);
    MergeWorkspace work;
    WordMemo memo(text.size());
    size_t begin = 0;
    for (const size_t end : ends) {
      while (begin < end) {
        const std::string_view word = text.substr(begin, std::min(end - begin, kLongestWord));
        memo.append(word, out, [&] { encode_word(word, work, out); });
        begin += word.size();
      }
    }
  }

  // The id of a spelling: a token's, or one past the vocabulary for a step that is no token.
  int32_t symbol(const std::string& text) {
    if (const auto id = vocab_.find_textual(text); id && !is_literal(*id)) return *id;
    const auto next = static_cast<int32_t>(vocab_.size() + static_cast<int64_t>(steps_.size()));
    const auto [entry, is_new] = step_ids_.try_emplace(text, next);
    if (is_new) steps_.push_back(unspell(text));
    return entry->second;
  }

  // DeepSeek Coder adds single letters such as U+00FF as user-defined tokens: they stand for that
  // letter, not for the byte it spells.
  bool is_literal(TokenId id) const {
    const std::string_view text = vocab_.text(id);
    return vocab_.kind(id) == TokenKind::kUserDefined && unspell(text).size() == 1 &&
           text.size() > 1;
  }

  void encode_word(std::string_view word, MergeWorkspace& work, std::vector<TokenId>& out) const {
    if (whole_words_) {
      if (const auto id = vocab_.find_textual(spell(word))) {
        out.push_back(*id);
        return;
      }
    }
    work.symbols.clear();
    for (uint32_t i = 0; i < word.size(); ++i)
      work.symbols.push_back(
          {.id = byte_symbols_[static_cast<uint8_t>(word[i])], .begin = i, .end = i + 1});
    merge_symbols(work, [this](const MergeSymbol& left, const MergeSymbol& right) {
      return pairs_.find(left.id, right.id);
    });
    for (int32_t i = 0; i >= 0; i = work.symbols[i].next) emit(work.symbols[i].id, out);
  }

  void emit(int32_t id, std::vector<TokenId>& out) const {
    if (id < vocab_.size()) {
      out.push_back(id);
      return;
    }
    for (const char c : steps_[id - vocab_.size()]) {
      const int32_t byte = byte_symbols_[static_cast<uint8_t>(c)];
      if (byte < vocab_.size()) {
        out.push_back(byte);
      } else if (unknown_) {
        out.push_back(*unknown_);
      }
    }
  }

  const Vocabulary& vocab_;
  std::optional<TokenId> unknown_;
  PreTokenizer pre_tokenizer_;
  bool whole_words_;
  NormalForm form_;
  std::array<int32_t, 256> byte_symbols_;
  PairTable pairs_;
  std::vector<std::string> steps_;                     // the bytes of symbols that are no tokens
  std::unordered_map<std::string, int32_t> step_ids_;  // while merges are read
};

Result<const PreTokenizerInfo*> named(const Metadata& metadata) {
  const std::string name = TRY(metadata.string_or(kPre, ""));
  const PreTokenizerInfo* info = find_pre_tokenizer(name);
  if (info != nullptr || metadata.contains(kPatterns)) return info;
  return error(Code::kUnsupported, "{} is '{}', a pre-tokenizer that is not known here", kPre,
               name);
}

Result<SchemeDefaults> defaults(const Metadata& metadata) {
  const PreTokenizerInfo* info = TRY(named(metadata));
  return SchemeDefaults{.add_bos = info != nullptr && info->add_bos,
                        .add_sep = info != nullptr && info->add_sep};
}

Result<std::unique_ptr<Scheme>> create(const Vocabulary& vocab, const Metadata& metadata) {
  const PreTokenizerInfo* info = TRY(named(metadata));
  std::vector<std::string_view> patterns;
  if (metadata.contains(kPatterns)) {
    patterns = TRY(metadata.get_strings(kPatterns));
  } else {
    patterns = info->patterns;
  }
  const bool whole_words = TRY(metadata.bool_or(kWholeWords, info != nullptr && info->whole_words));
  auto form = parse_normal_form(TRY(metadata.string_or(kNormalForm, "")));
  if (!form.ok()) return std::move(form).error().within(kNormalForm);
  auto scheme =
      std::make_unique<ByteLevelBpe>(vocab, TRY(PreTokenizer::compile(patterns)), whole_words, *form);
  auto status = scheme->read_merges(TRY(metadata.get_strings(kMerges)));
  if (!status.ok()) return std::move(status).error();
  return std::unique_ptr<Scheme>(std::move(scheme));
}

}  // namespace

extern const TokenizerScheme scheme_gpt2;
const TokenizerScheme scheme_gpt2{.name = "gpt2", .defaults = defaults, .create = create};

}  // namespace venturi
