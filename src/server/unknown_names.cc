#include "server/unknown_names.h"

namespace venturi::server {

std::vector<std::string> UnknownNames::news(const std::vector<std::string>& names, double seconds) {
  if (seconds >= minute_ + 60) {
    minute_ = seconds;
    told_now_ = 0;
  }
  std::vector<std::string> news;
  for (const std::string& name : names) {
    if (told_now_ == kPerMinute) break;
    if (told_.contains(name.substr(0, kLength))) continue;
    if (told_.size() == kRemembered) told_.clear();
    told_.insert(name.substr(0, kLength));
    news.push_back(name.substr(0, kLength));
    ++told_now_;
  }
  return news;
}

}  // namespace venturi::server
