// Text to token ids and back.
//
// A scheme ("llama" SentencePiece-style BPE, "gpt2" byte-level BPE, "t5" unigram, "bert" WordPiece)
// is one file in this folder that defines a `TokenizerScheme scheme_x`; the build writes the registry.
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

enum class TokenKind : uint8_t { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };

struct EncodeOptions {
  bool add_special = true;    // BOS/EOS (CLS/SEP) where the model asks for them
  bool parse_special = false; // control tokens written in the text become their ids: only for text
                              // that did not come from a user
};

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // From the tokenizer.ggml.* keys of a GGUF file (or of a Hugging Face directory read into them).
  static Result<std::unique_ptr<Tokenizer>> from_metadata(const Metadata& metadata);

  std::vector<TokenId> encode(std::string_view text, EncodeOptions options = {}) const;
  // The bytes of the tokens, one after another; control tokens give nothing unless `special`.
  std::string decode(std::span<const TokenId> ids, bool special = false) const;
  // The bytes one token stands for inside a text (a space is a space, a byte token its byte).
  std::string piece(TokenId id, bool special = false) const;

  int64_t vocab_size() const;
  std::string_view token_text(TokenId id) const;  // as the vocabulary spells it
  TokenKind kind(TokenId id) const;
  std::optional<TokenId> find(std::string_view token_text) const;
  std::optional<TokenId> bos() const;
  std::optional<TokenId> eos() const;
  std::optional<TokenId> unk() const;
  bool is_end_of_generation(TokenId id) const;  // eos, eot, eom, <|im_end|>, …
  bool adds_bos() const;
};

}  // namespace venturi
