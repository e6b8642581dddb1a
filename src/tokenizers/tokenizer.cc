#include "tokenizers/tokenizer.h"

#include "tokenizers/scheme.h"
#include "tokenizers/special_matcher.h"
#include "tokenizers/vocabulary.h"

// Needs the declarations above.
#include "tokenizer_scheme_registry.inc"

namespace venturi {

std::span<const TokenizerScheme* const> all_tokenizer_schemes() { return kAll_TokenizerScheme; }

Tokenizer::Tokenizer() = default;
Tokenizer::~Tokenizer() = default;

Result<std::unique_ptr<Tokenizer>> Tokenizer::from_metadata(const Metadata& metadata) {
  const std::string model = TRY(metadata.get_string("tokenizer.ggml.model"));
  std::string known;
  for (const TokenizerScheme* scheme : all_tokenizer_schemes()) {
    known += known.empty() ? "" : ", ";
    known += scheme->name;
    if (scheme->name != model) continue;
    std::unique_ptr<Tokenizer> tokenizer(new Tokenizer);
    const SchemeDefaults defaults = TRY(scheme->defaults(metadata));
    tokenizer->vocab_ = TRY(Vocabulary::read(metadata, defaults));
    tokenizer->scheme_ = TRY(scheme->create(*tokenizer->vocab_, metadata));
    tokenizer->specials_ =
        std::make_unique<SpecialMatcher>(TRY(SpecialMatcher::create(*tokenizer->vocab_, metadata)));
    return tokenizer;
  }
  return error(Code::kUnsupported, "tokenizer.ggml.model is '{}'; known are {}", model, known);
}

std::vector<TokenId> Tokenizer::encode(std::string_view text, EncodeOptions options) const {
  std::vector<TokenId> out;
  if (options.add_special && vocab_->add_bos && vocab_->bos) out.push_back(*vocab_->bos);
  bool opens = true;
  specials_->split(
      text, options.parse_special,
      [&](std::string_view piece) {
        scheme_->encode(piece, opens, out);
        opens = false;
      },
      [&](TokenId id) {
        out.push_back(id);
        opens = true;
      });
  if (options.add_special && vocab_->add_eos && vocab_->eos) {
    out.push_back(*vocab_->eos);
  } else if (options.add_special && vocab_->add_sep && vocab_->sep) {
    out.push_back(*vocab_->sep);
  }
  return out;
}

size_t Tokenizer::most_bytes_per_token() const { return scheme_->most_bytes_per_token(); }

std::string Tokenizer::decode(std::span<const TokenId> ids, bool special) const {
  std::string out;
  bool opens = scheme_->adds_space();
  for (const TokenId id : ids) {
    const std::string bytes = piece(id, special);
    const TokenKind token_kind = kind(id);
    if (token_kind == TokenKind::kControl) {
      out += bytes;
      continue;
    }
    const bool strip = opens && token_kind != TokenKind::kUserDefined && bytes.starts_with(' ');
    out.append(bytes, strip ? 1 : 0);
    opens = false;
  }
  return out;
}

std::string Tokenizer::piece(TokenId id, bool special) const {
  if (!vocab_->contains(id)) return {};
  const TokenKind kind = vocab_->kind(id);
  if (kind == TokenKind::kControl || kind == TokenKind::kUnknown)
    return special ? std::string(vocab_->text(id)) : std::string();
  if (kind == TokenKind::kUserDefined) return std::string(vocab_->text(id));
  return scheme_->piece(id);
}

int64_t Tokenizer::vocab_size() const { return vocab_->size(); }

std::string_view Tokenizer::token_text(TokenId id) const {
  return vocab_->contains(id) ? vocab_->text(id) : std::string_view();
}

TokenKind Tokenizer::kind(TokenId id) const {
  return vocab_->contains(id) ? vocab_->kind(id) : TokenKind::kUnused;
}

std::optional<TokenId> Tokenizer::find(std::string_view text) const { return vocab_->find(text); }
std::optional<TokenId> Tokenizer::bos() const { return vocab_->bos; }
std::optional<TokenId> Tokenizer::eos() const { return vocab_->eos; }
std::optional<TokenId> Tokenizer::unk() const { return vocab_->unk; }
std::optional<TokenId> Tokenizer::eot() const { return vocab_->eot; }

bool Tokenizer::is_end_of_generation(TokenId id) const { return vocab_->is_end_of_generation(id); }
bool Tokenizer::adds_bos() const { return vocab_->add_bos && vocab_->bos.has_value(); }

}  // namespace venturi
