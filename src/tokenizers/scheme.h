// How one family of tokenizers cuts text: what each file in schemes/ defines.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "formats/metadata.h"
#include "tokenizers/vocabulary.h"

namespace venturi {

class Scheme {
 public:
  virtual ~Scheme() = default;

  // Appends the tokens of `text`, in which no special token is recognised. `opens` says that it is
  // the beginning of the input or follows a special token.
  virtual void encode(std::string_view text, bool opens, std::vector<TokenId>& out) const = 0;

  // The bytes of a token that is neither control nor unknown, inside a text.
  virtual std::string piece(TokenId id) const = 0;

  // The most bytes of a text that one token stands for; 0: nobody knows, for some may be dropped.
  virtual size_t most_bytes_per_token() const { return 0; }

  // Whether encode puts a space before a text that opens, which decode takes away again.
  virtual bool adds_space() const { return false; }
};

struct TokenizerScheme {
  std::string_view name;  // the value of tokenizer.ggml.model
  Result<SchemeDefaults> (*defaults)(const Metadata& metadata);
  // The vocabulary outlives the scheme.
  Result<std::unique_ptr<Scheme>> (*create)(const Vocabulary& vocab, const Metadata& metadata);
};

std::span<const TokenizerScheme* const> all_tokenizer_schemes();

}  // namespace venturi
