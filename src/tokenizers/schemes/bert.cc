// "bert": WordPiece. The text is cleaned, folded and cut into words; a word is cut greedily into
// the longest pieces. Schuster, Nakajima, "Japanese and Korean voice search" (2012); Devlin et al.,
// "BERT" (2019).
//
// In GGUF a piece that begins a word carries a space mark, one that continues it carries nothing
// (in vocab.txt it is the other way round: "##" marks the latter). GGUF does not say whether a
// vocabulary is cased, so it is told from the pieces: uncased ones never begin a word with a
// capital.
#include <utf8proc.h>

#include "tokenizers/scheme.h"
#include "tokenizers/sentencepiece.h"
#include "tokenizers/trie.h"
#include "tokenizers/utf8.h"

namespace venturi {

namespace {

constexpr size_t kLongestWord = 100;  // characters; longer words are unknown, as in BERT

// The ranges that BERT's own code names, in the version that Hugging Face's tokenizers carry (one
// range begins at 2B920 there, not at 2B820).
bool is_cjk(uint32_t c) {
  return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) ||
         (c >= 0x20000 && c <= 0x2A6DF) || (c >= 0x2A700 && c <= 0x2B73F) ||
         (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
         (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

bool is_bert_punctuation(uint32_t c) {
  if (c < 0x80)
    return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') ||
           (c >= '{' && c <= '~');
  return is_punctuation(c);
}

// One word at a time: the letters so far, and how many.
struct Word {
  std::string text{kSpaceMark};
  size_t n_chars = 0;

  void append(uint32_t c) {
    append_utf8(c, text);
    ++n_chars;
  }
  void clear() {
    text.resize(kSpaceMark.size());
    n_chars = 0;
  }
};

class WordPiece : public Scheme {
 public:
  explicit WordPiece(const Vocabulary& vocab) : vocab_(vocab) {
    for (char c = 'A'; c <= 'Z'; ++c)
      cased_ = cased_ && vocab.find_textual(std::string(kSpaceMark) + c).has_value();
    std::vector<std::pair<std::string_view, int32_t>> pieces;
    for (TokenId id = 0; id < vocab.size(); ++id)
      if (Vocabulary::is_textual(vocab.kind(id))) pieces.emplace_back(vocab.text(id), id);
    pieces_ = Trie(std::move(pieces));
  }

  void encode(std::string_view text, bool, std::vector<TokenId>& out) const override {
    Word word;
    const auto flush = [&] {
      if (word.n_chars > 0) encode_word(word, out);
      word.clear();
    };
    for (size_t at = 0; at < text.size();) {
      const CodePoint c = decode_utf8(text, at);
      at += std::max(c.length, 1u);
      // Bytes that are not UTF-8 count as U+FFFD, which BERT drops as it does control characters.
      const bool blank = c.value == '\t' || c.value == '\n' || c.value == '\r';
      if (c.length == 0 || c.value == 0 || c.value == kReplacement ||
          (is_control(c.value) && !blank))
        continue;
      if (is_white_space(c.value)) {
        flush();
      } else if (is_cjk(c.value)) {
        flush();
        add(c.value, word, flush);
        flush();
      } else {
        add(c.value, word, flush);
      }
    }
    flush();
  }

  std::string piece(TokenId id) const override { return unmark_spaces(vocab_.text(id)); }

  bool adds_space() const override { return true; }

 private:
  // Appends one character, folded; punctuation is a word of its own.
  template <typename Flush>
  void add(uint32_t c, Word& word, const Flush& flush) const {
    const auto put = [&](uint32_t x) {
      if (!is_bert_punctuation(x)) return word.append(x);
      flush();
      word.append(x);
      flush();
    };
    if (cased_) return put(c);
    if (c < 0x80) return put(c >= 'A' && c <= 'Z' ? c + 32 : c);
    // Accents go: what the canonical decomposition splits off as a nonspacing mark.
    utf8proc_int32_t parts[32];
    int boundary = 0;
    const auto n = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c), parts, 32,
                                           UTF8PROC_DECOMPOSE, &boundary);
    for (utf8proc_ssize_t i = 0; i < std::min<utf8proc_ssize_t>(n, 32); ++i) {
      const auto part = static_cast<uint32_t>(parts[i]);
      if (!is_nonspacing_mark(part)) put(static_cast<uint32_t>(utf8proc_tolower(parts[i])));
    }
  }

  void encode_word(const Word& word, std::vector<TokenId>& out) const {
    const size_t before = out.size();
    bool known = word.n_chars <= kLongestWord;
    for (size_t at = 0; known && at < word.text.size();) {
      const Trie::Match match = pieces_.longest(word.text, at);
      // The mark alone is not the beginning of a word.
      known = match.value >= 0 && (at > 0 || match.length > kSpaceMark.size());
      if (known) out.push_back(match.value);
      at += match.length;
    }
    if (known) return;
    out.resize(before);
    if (vocab_.unk) out.push_back(*vocab_.unk);
  }

  const Vocabulary& vocab_;
  Trie pieces_;
  bool cased_ = true;
};

Result<SchemeDefaults> defaults(const Metadata&) {
  return SchemeDefaults{.add_bos = true, .add_sep = true, .bos = 101, .unk = 100, .sep = 102};
}

Result<std::unique_ptr<Scheme>> create(const Vocabulary& vocab, const Metadata&) {
  return std::unique_ptr<Scheme>(std::make_unique<WordPiece>(vocab));
}

}  // namespace

extern const TokenizerScheme scheme_bert;
const TokenizerScheme scheme_bert{.name = "bert", .defaults = defaults, .create = create};

}  // namespace venturi
