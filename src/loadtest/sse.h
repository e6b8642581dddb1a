// Server-sent events out of pieces of a body: the data of each event, whole.
#pragma once

#include <functional>
#include <string>
#include <string_view>

namespace venturi::loadtest {

class EventReader {
 public:
  // An event whose data grows past this is given up: overflowed() from then on.
  explicit EventReader(size_t max_bytes = 4u << 20) : max_bytes_(max_bytes) {}

  // Calls on_data for every event that ends in `piece`. Lines end by LF or CRLF; comments and other
  // fields than data are passed over; several data lines of one event are joined by LF.
  template <typename OnData>
  void feed(std::string_view piece, OnData&& on_data) {
    for (const char c : piece) {
      if (c != '\n') {
        if (line_.size() + data_.size() >= max_bytes_) overflowed_ = true;
        if (!overflowed_) line_ += c;
        continue;
      }
      if (line_.ends_with('\r')) line_.pop_back();
      if (line_.empty()) {
        if (has_data_) on_data(std::string_view(data_));
        data_.clear();
        has_data_ = false;
      } else if (line_.starts_with("data:")) {
        std::string_view value = std::string_view(line_).substr(5);
        if (value.starts_with(' ')) value.remove_prefix(1);
        if (has_data_) data_ += '\n';
        data_ += value;
        has_data_ = true;
      }
      line_.clear();
    }
  }
  bool overflowed() const { return overflowed_; }

 private:
  const size_t max_bytes_;
  std::string line_, data_;
  bool has_data_ = false, overflowed_ = false;
};

}  // namespace venturi::loadtest
