// A text that is written a little at a time and read once: nothing of it moves while it grows, and what has been read
// is freed at once, so that it is never there twice.
#pragma once

#include <deque>
#include <string>
#include <string_view>
#include <utility>

namespace venturi::server {

class Pieces {
 public:
  void add(std::string_view more) {
    if (pieces_.empty() || pieces_.back().size() + more.size() > kPiece) {
      pieces_.emplace_back();
      if (pieces_.size() > 1) pieces_.back().reserve(kPiece);
    }
    pieces_.back() += more;
    size_ += more.size();
  }
  // With a comma between them.
  void add_item(std::string_view item) {
    if (size_ > 0) add(",");
    add(item);
  }
  size_t size() const { return size_; }
  void move_to(std::string& text) {
    size_ = 0;
    for (; !pieces_.empty(); pieces_.pop_front()) text += pieces_.front();
  }

 private:
  static constexpr size_t kPiece = 64 << 10;
  std::deque<std::string> pieces_;
  size_t size_ = 0;
};

}  // namespace venturi::server
