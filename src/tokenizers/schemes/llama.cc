// "llama": SentencePiece's BPE. Characters are joined into whichever neighbouring pair is the piece
// with the highest score, leftmost first, until no pair is a piece; what is no piece at the end is
// written as its bytes (<0x41>), or as the unknown token where the vocabulary has no bytes.
#include <algorithm>

#include "tokenizers/merge.h"
#include "tokenizers/scheme.h"
#include "tokenizers/sentencepiece.h"
#include "tokenizers/utf8.h"
#include "tokenizers/word_memo.h"

namespace venturi {

namespace {

class SentencePieceBpe : public Scheme {
 public:
  SentencePieceBpe(const Vocabulary& vocab, SentencePieceNormalizer normalizer)
      : vocab_(vocab), normalizer_(std::move(normalizer)), ranks_(vocab.size()) {
    std::vector<float> scores;
    for (TokenId id = 0; id < vocab.size(); ++id) scores.push_back(vocab.score(id));
    std::sort(scores.begin(), scores.end(), std::greater<>());
    scores.erase(std::unique(scores.begin(), scores.end()), scores.end());
    for (TokenId id = 0; id < vocab.size(); ++id) {
      const auto place =
          std::lower_bound(scores.begin(), scores.end(), vocab.score(id), std::greater<>());
      ranks_[id] = static_cast<uint32_t>(place - scores.begin());
    }
    for (TokenId id = 0; id < vocab.size(); ++id)
      if (Vocabulary::is_textual(vocab.kind(id)) && has_inner_mark(vocab.text(id)))
        marks_begin_words_ = false;
  }

  void encode(std::string_view text, bool opens, std::vector<TokenId>& out) const override {
    const std::string normal = normalizer_.apply(text, opens);
    MergeWorkspace work;
    WordMemo memo(normal.size());
    for (size_t begin = 0; begin < normal.size();) {
      const size_t end = word_end(normal, begin);
      const auto word = std::string_view(normal).substr(begin, end - begin);
      memo.append(word, out, [&] { encode_word(word, work, out); });
      begin = end;
    }
  }

  std::string piece(TokenId id) const override {
    if (const auto byte = vocab_.byte_of(id)) return std::string(1, static_cast<char>(*byte));
    return unmark_spaces(vocab_.text(id));
  }

  bool adds_space() const override { return normalizer_.adds_space(); }
  size_t most_bytes_per_token() const override {
    for (int byte = 0; byte < 256; ++byte)  // else a run of what is unknown is one token
      if (vocab_.byte_token(static_cast<uint8_t>(byte)) < 0) return 0;
    return normalizer_.drops_bytes() ? 0 : vocab_.longest_text();
  }

 private:
  static constexpr size_t kLongestWord = size_t{1} << 30;  // offsets inside a word are 32 bits

  // A space mark after something else.
  static bool has_inner_mark(std::string_view text) {
    size_t i = 0;
    while (text.substr(i).starts_with(kSpaceMark)) i += kSpaceMark.size();
    return text.find(kSpaceMark, i) != std::string_view::npos;
  }

  // When no piece has a mark after something else, no merge crosses the beginning of a run of
  // marks, so the words between can be merged one by one, with the same result and a small heap.
  size_t word_end(std::string_view text, size_t begin) const {
    const size_t limit = std::min(text.size(), begin + kLongestWord);
    if (!marks_begin_words_) return limit;
    size_t i = begin;
    while (text.substr(i).starts_with(kSpaceMark)) i += kSpaceMark.size();
    return std::min(text.find(kSpaceMark, i), limit);
  }

  void encode_word(std::string_view word, MergeWorkspace& work, std::vector<TokenId>& out) const {
    work.symbols.clear();
    for (size_t at = 0; at < word.size();) {
      const size_t length = std::max(decode_utf8(word, at).length, 1u);
      work.symbols.push_back({.id = vocab_.find_textual(word.substr(at, length)).value_or(-1),
                              .begin = static_cast<uint32_t>(at),
                              .end = static_cast<uint32_t>(at + length)});
      at += length;
    }
    merge_symbols(work, [&](const MergeSymbol& left, const MergeSymbol& right) -> PairMerge {
      const size_t length = right.end - left.begin;
      if (length > vocab_.longest_text()) return {};
      const auto id = vocab_.find_textual(word.substr(left.begin, length));
      return id ? PairMerge{ranks_[*id], *id} : PairMerge{};
    });
    bool unknown = false;  // a run of unknown characters is one token
    for (int32_t i = 0; i >= 0; i = work.symbols[i].next) {
      const MergeSymbol& symbol = work.symbols[i];
      if (symbol.id >= 0) {
        out.push_back(symbol.id);
        unknown = false;
        continue;
      }
      for (uint32_t b = symbol.begin; b < symbol.end; ++b) {
        const TokenId byte = vocab_.byte_token(static_cast<uint8_t>(word[b]));
        if (byte >= 0) out.push_back(byte);
        if (byte < 0 && !unknown && vocab_.unk) out.push_back(*vocab_.unk);
        unknown = byte < 0;
      }
    }
  }

  const Vocabulary& vocab_;
  SentencePieceNormalizer normalizer_;
  std::vector<uint32_t> ranks_;  // [vocab_size], by falling score
  bool marks_begin_words_ = true;
};

Result<SchemeDefaults> defaults(const Metadata&) {
  return SchemeDefaults{
      .add_bos = true, .needs_scores = true, .hex_bytes = true, .bos = 1, .eos = 2, .unk = 0};
}

Result<std::unique_ptr<Scheme>> create(const Vocabulary& vocab, const Metadata& metadata) {
  auto normalizer = TRY(SentencePieceNormalizer::create(metadata));
  return std::unique_ptr<Scheme>(std::make_unique<SentencePieceBpe>(vocab, std::move(normalizer)));
}

}  // namespace

extern const TokenizerScheme scheme_llama;
const TokenizerScheme scheme_llama{.name = "llama", .defaults = defaults, .create = create};

}  // namespace venturi
