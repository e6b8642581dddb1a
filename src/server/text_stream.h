// Tokens of one answer to text that can be sent: whole characters, up to the first stop text.
#pragma once

#include <string>
#include <vector>

#include "tokenizers/detokenizer.h"

namespace venturi::server {

class TextStream {
 public:
  // `shown`: control tokens that appear by their names.
  TextStream(const Tokenizer& tokenizer, std::vector<std::string> stops, std::vector<TokenId> shown = {})
      : tokenizer_(tokenizer), detokenizer_(tokenizer), stops_(std::move(stops)), shown_(std::move(shown)) {}

  // The text that may be sent now; what might be the beginning of a stop text waits.
  std::string push(TokenId id);
  std::string finish() { return take(detokenizer_.finish(), true); }
  // There are stop texts: what came may be part of one until it is given out.
  bool may_stop() const { return !stops_.empty(); }
  // A stop text came; it and what is behind it are not sent.
  bool stopped() const { return stopped_; }
  const std::string& stop() const { return stop_; }  // which
  // Bytes of text that have come, and that have been given out.
  size_t came() const { return came_; }
  size_t given() const { return given_; }

 private:
  std::string take(const std::string& more, bool all);

  const Tokenizer& tokenizer_;
  Detokenizer detokenizer_;
  const std::vector<std::string> stops_;
  const std::vector<TokenId> shown_;
  std::string waiting_;
  std::string stop_;
  size_t came_ = 0, given_ = 0;
  bool stopped_ = false;
};

}  // namespace venturi::server
