// Tokens one by one to text that can be shown at once: only whole UTF-8 characters come out.
//
// A token may end in the middle of a character; its bytes wait for the next. What can become no
// character is replaced by U+FFFD, so that every string returned is valid UTF-8 (a server puts it
// into JSON). The tokenizer outlives the object. One thread.
#pragma once

#include <string>

#include "tokenizers/tokenizer.h"

namespace venturi {

class Detokenizer {
 public:
  // `special`: control tokens appear as their names.
  explicit Detokenizer(const Tokenizer& tokenizer, bool special = false)
      : tokenizer_(tokenizer), special_(special) {}

  // The text that this token completes, maybe none.
  std::string push(TokenId id);
  // What still waits, at the end of the stream: U+FFFD, or nothing.
  std::string finish();

 private:
  std::string take(bool all);

  const Tokenizer& tokenizer_;
  bool special_;
  std::string waiting_;
};

}  // namespace venturi
