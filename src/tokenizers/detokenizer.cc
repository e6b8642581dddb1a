#include "tokenizers/detokenizer.h"

#include "tokenizers/utf8.h"

namespace venturi {

std::string Detokenizer::push(TokenId id) {
  waiting_ += tokenizer_.piece(id, special_);
  return take(false);
}

std::string Detokenizer::finish() { return take(true); }

std::string Detokenizer::take(bool all) {
  std::string out;
  size_t at = 0;
  while (at < waiting_.size()) {
    const CodePoint c = decode_utf8(waiting_, at);
    if (c.length > 0) {
      out.append(waiting_, at, c.length);
      at += c.length;
      continue;
    }
    const size_t incomplete = incomplete_utf8(waiting_, at);
    if (incomplete > 0 && !all) break;
    append_utf8(kReplacement, out);
    at += incomplete > 0 ? incomplete : 1;
  }
  waiting_.erase(0, at);
  return out;
}

}  // namespace venturi
