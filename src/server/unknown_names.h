// Which of the names that clients make up are told in the log: each once, as long as it is remembered, and so many a minute.
//
// Threads: one at a time.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

namespace venturi::server {

class UnknownNames {
 public:
  static constexpr size_t kPerMinute = 32, kRemembered = 1024, kLength = 64;  // bytes of a name

  // Those to tell now, cut to their length; `seconds` on any clock that does not go back. What a full minute has no room for is
  // told when it comes again.
  std::vector<std::string> news(const std::vector<std::string>& names, double seconds);
  // The minute has told all that it may.
  bool full() const { return told_now_ == kPerMinute; }

 private:
  std::set<std::string> told_;
  double minute_ = 0;
  size_t told_now_ = 0;
};

}  // namespace venturi::server
