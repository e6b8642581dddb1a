// Tokens of one answer to text that can be sent: whole characters, up to the first stop text.
#pragma once

#include <string>
#include <vector>

#include "tokenizers/detokenizer.h"

namespace venturi::server {

class TextStream {
 public:
  TextStream(const Tokenizer& tokenizer, std::vector<std::string> stops)
      : detokenizer_(tokenizer), stops_(std::move(stops)) {}

  // The text that may be sent now; what might be the beginning of a stop text waits.
  std::string push(TokenId id) { return take(detokenizer_.push(id), false); }
  std::string finish() { return take(detokenizer_.finish(), true); }
  // A stop text came; it and what is behind it are not sent.
  bool stopped() const { return stopped_; }
  const std::string& stop() const { return stop_; }  // which

 private:
  std::string take(const std::string& more, bool all);

  Detokenizer detokenizer_;
  const std::vector<std::string> stops_;
  std::string waiting_;
  std::string stop_;
  bool stopped_ = false;
};

}  // namespace venturi::server
