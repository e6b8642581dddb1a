// Text to token ids and back.
//
// A scheme ("llama" SentencePiece-style BPE, "gpt2" byte-level BPE, "t5" unigram, "bert" WordPiece)
// is one file in schemes/ that defines a `TokenizerScheme scheme_x`; the build writes the registry.
// A pre-tokenizer (what tokenizer.ggml.pre names) is one entry in pre_tokenizer_table.cc.
//
// What comes back: decode(encode(text)) is the text, byte for byte (invalid UTF-8 too), for "gpt2",
// and for "llama" with byte tokens and no normalisation. "t5" returns the normalised text, "bert"
// the folded words with one space between tokens of different words; what their vocabulary cannot
// spell becomes the unknown token, which decodes to nothing.
//
// Threads: const members may be called from any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "formats/metadata.h"

namespace venturi {

using TokenId = int32_t;

enum class TokenKind : uint8_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6
};

struct EncodeOptions {
  bool add_special = true;     // BOS/EOS (CLS/SEP) where the model asks for them
  bool parse_special = false;  // control tokens written in the text become their ids: only for text
                               // that did not come from a user. User-defined tokens always do.
};

class Scheme;
class SpecialMatcher;
class Vocabulary;

class Tokenizer {
 public:
  // From the tokenizer.ggml.* keys of a GGUF file (or of a Hugging Face directory read into them).
  // Copies what it needs. Errors name the key.
  static Result<std::unique_ptr<Tokenizer>> from_metadata(const Metadata& metadata);
  ~Tokenizer();

  std::vector<TokenId> encode(std::string_view text, EncodeOptions options = {}) const;
  // The most bytes of a text that one token stands for, by which a text's length tells a least number of tokens; 0:
  // nobody knows.
  size_t most_bytes_per_token() const;
  // The bytes of the tokens, one after another, less the space that encode puts before a text where
  // the scheme does that; control tokens give nothing unless `special`.
  std::string decode(std::span<const TokenId> ids, bool special = false) const;
  // The bytes one token stands for inside a text (a space is a space, a byte token its byte). An id
  // outside the vocabulary gives nothing.
  std::string piece(TokenId id, bool special = false) const;

  int64_t vocab_size() const;
  std::string_view token_text(TokenId id) const;  // as the vocabulary spells it; "" outside it
  TokenKind kind(TokenId id) const;               // kUnused outside the vocabulary
  std::optional<TokenId> find(std::string_view token_text) const;
  std::optional<TokenId> bos() const;
  std::optional<TokenId> eos() const;
  std::optional<TokenId> unk() const;
  std::optional<TokenId> eot() const;           // end of a chat turn, if the vocabulary names one
  bool is_end_of_generation(TokenId id) const;  // eos, eot, eom, <|im_end|>, …
  bool adds_bos() const;

 private:
  Tokenizer();

  std::unique_ptr<Vocabulary> vocab_;  // the scheme refers to it
  std::unique_ptr<Scheme> scheme_;
  std::unique_ptr<SpecialMatcher> specials_;
};

}  // namespace venturi
