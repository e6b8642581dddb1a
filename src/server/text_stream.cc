#include "server/text_stream.h"

#include <algorithm>

namespace venturi::server {

std::string TextStream::push(TokenId id) {
  if (std::find(shown_.begin(), shown_.end(), id) == shown_.end()) return take(detokenizer_.push(id), false);
  return take(detokenizer_.finish() + std::string(tokenizer_.token_text(id)), false);
}

std::string TextStream::take(const std::string& more, bool all) {
  if (stopped_) return {};
  waiting_ += more;
  came_ += more.size();
  size_t first = std::string::npos;
  for (const std::string& stop : stops_)
    if (const size_t at = waiting_.find(stop); at < first) {
      first = at;
      stop_ = stop;
    }
  if (first != std::string::npos) {
    stopped_ = true;
    std::string text = waiting_.substr(0, first);
    given_ += text.size();
    waiting_.clear();
    return text;
  }
  // The longest end of what waits that some stop text begins with.
  size_t keep = 0;
  if (!all)
    for (const std::string& stop : stops_)
      for (size_t n = std::min(stop.size() - 1, waiting_.size()); n > keep; --n)
        if (waiting_.compare(waiting_.size() - n, n, stop, 0, n) == 0) keep = n;
  std::string text = waiting_.substr(0, waiting_.size() - keep);
  waiting_.erase(0, text.size());
  given_ += text.size();
  return text;
}

}  // namespace venturi::server
