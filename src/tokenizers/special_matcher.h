// Finds special tokens that are spelled out in a text: leftmost first, the longest at each place.
#pragma once

#include <functional>
#include <string_view>
#include <vector>

#include "formats/metadata.h"
#include "tokenizers/trie.h"
#include "tokenizers/vocabulary.h"

namespace venturi {

class SpecialMatcher {
 public:
  // Reads general.name and tokenizer.ggml.pre for the few models whose special tokens swallow the
  // white space beside them.
  static Result<SpecialMatcher> create(const Vocabulary& vocab, const Metadata& metadata);

  // User-defined tokens are found always, control and unknown ones when `control` is set. Calls
  // on_text(piece) and on_token(id) in the order of the text.
  void split(std::string_view text, bool control,
             const std::function<void(std::string_view)>& on_text,
             const std::function<void(TokenId)>& on_token) const;

 private:
  Trie user_defined_, all_;
  std::vector<TokenId> strips_left_, strips_right_;  // sorted
};

}  // namespace venturi
