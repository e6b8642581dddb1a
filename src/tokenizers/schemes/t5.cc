// "t5": SentencePiece's unigram model. Of all ways to cut the text into pieces the one with the
// highest sum of scores (log probabilities), by Viterbi's algorithm over a trie of the pieces.
// Kudo, "Subword regularization: improving neural network translation models with multiple subword
// candidates" (2018).
#include <algorithm>
#include <limits>

#include "tokenizers/scheme.h"
#include "tokenizers/sentencepiece.h"
#include "tokenizers/trie.h"
#include "tokenizers/utf8.h"

namespace venturi {

namespace {

// A character without a piece costs this much more than the worst piece.
constexpr float kUnknownPenalty = 10.0f;
constexpr TokenId kUnknownPiece = -1;

class Unigram : public Scheme {
 public:
  Unigram(const Vocabulary& vocab, SentencePieceNormalizer normalizer)
      : vocab_(vocab), normalizer_(std::move(normalizer)) {
    float worst = std::numeric_limits<float>::max();
    std::vector<std::pair<std::string_view, int32_t>> pieces;
    for (TokenId id = 0; id < vocab.size(); ++id) {
      if (vocab.kind(id) == TokenKind::kNormal) worst = std::min(worst, vocab.score(id));
      if (Vocabulary::is_textual(vocab.kind(id))) pieces.emplace_back(vocab.text(id), id);
    }
    unknown_score_ = (pieces.empty() ? 0.0f : worst) - kUnknownPenalty;
    pieces_ = Trie(std::move(pieces));
    for (int byte = 0; byte < 256; ++byte)
      has_bytes_ = has_bytes_ && vocab.byte_token(static_cast<uint8_t>(byte)) >= 0;
  }

  void encode(std::string_view text, bool opens, std::vector<TokenId>& out) const override {
    const std::string normal = normalizer_.apply(text, opens);
    const std::string_view all = normal;
    for (size_t at = 0; at < all.size(); at += kLongestText)
      encode_normal(all.substr(at, kLongestText), out);
  }

  std::string piece(TokenId id) const override {
    if (const auto byte = vocab_.byte_of(id)) return std::string(1, static_cast<char>(*byte));
    return unmark_spaces(vocab_.text(id));
  }

  bool adds_space() const override { return normalizer_.adds_space(); }

 private:
  static constexpr size_t kLongestText = size_t{1} << 30;  // offsets are 32 bits

  // The best way to cut the text before an offset: its score and its last piece.
  struct Best {
    float score = -std::numeric_limits<float>::infinity();
    uint32_t begin = 0;
    TokenId id = kUnknownPiece;
  };

  void encode_normal(std::string_view text, std::vector<TokenId>& out) const {
    std::vector<Best> best(text.size() + 1);
    best[0].score = 0;
    for (size_t at = 0; at < text.size();) {
      const size_t length = std::max(decode_utf8(text, at).length, 1u);
      relax(text, at, length, best);
      at += length;
    }
    // From the end to the beginning; a run of unknown characters is one piece.
    std::vector<Best> path;
    for (uint32_t end = static_cast<uint32_t>(text.size()); end > 0;) {
      Best piece = best[end];
      const uint32_t begin = piece.begin;
      piece.begin = end;  // from here on: where it ends
      const bool joins =
          piece.id == kUnknownPiece && !path.empty() && path.back().id == kUnknownPiece;
      if (!joins) path.push_back(piece);
      end = begin;
    }
    std::reverse(path.begin(), path.end());
    uint32_t begin = 0;
    for (const Best& piece : path) {
      emit(piece.id, text.substr(begin, piece.begin - begin), out);
      begin = piece.begin;
    }
  }

  // Offers every piece that begins at `at`, and the unknown piece if none is that one character.
  void relax(std::string_view text, size_t at, size_t length, std::vector<Best>& best) const {
    // Sums in double, kept in float: the last bit decides between equal cuts.
    const auto offer = [&](size_t end, TokenId id, double score) {
      const double sum = static_cast<double>(best[at].score) + score;
      if (sum > best[end].score)
        best[end] = {static_cast<float>(sum), static_cast<uint32_t>(at), id};
    };
    bool single = false;
    Trie::Node node = Trie::kRoot;
    for (size_t i = at; i < text.size(); ++i) {
      node = pieces_.step(node, text[i]);
      if (node == Trie::kNone) break;
      const TokenId id = pieces_.value(node);
      if (id < 0) continue;
      single = single || i + 1 - at == length;
      offer(i + 1, id, vocab_.kind(id) == TokenKind::kUserDefined ? 0.0 : vocab_.score(id));
    }
    if (!single) offer(at + length, kUnknownPiece, unknown_score_);
  }

  void emit(TokenId id, std::string_view text, std::vector<TokenId>& out) const {
    if (id != kUnknownPiece) {
      out.push_back(id);
    } else if (has_bytes_) {
      for (const char c : text) out.push_back(vocab_.byte_token(static_cast<uint8_t>(c)));
    } else if (vocab_.unk) {
      out.push_back(*vocab_.unk);
    }
  }

  const Vocabulary& vocab_;
  SentencePieceNormalizer normalizer_;
  Trie pieces_;
  float unknown_score_ = 0;
  bool has_bytes_ = true;
};

Result<SchemeDefaults> defaults(const Metadata&) {
  return SchemeDefaults{
      .add_eos = true, .needs_scores = true, .hex_bytes = true, .eos = 1, .unk = 2};
}

Result<std::unique_ptr<Scheme>> create(const Vocabulary& vocab, const Metadata& metadata) {
  auto normalizer = TRY(SentencePieceNormalizer::create(metadata));
  return std::unique_ptr<Scheme>(std::make_unique<Unigram>(vocab, std::move(normalizer)));
}

}  // namespace

extern const TokenizerScheme scheme_t5;
const TokenizerScheme scheme_t5{.name = "t5", .defaults = defaults, .create = create};

}  // namespace venturi
