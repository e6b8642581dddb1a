// Who has a place without having shown a key: where there are too many of them, one gives way to the next. It is the
// one that came first among those from where most come, so that a crowd from one place puts out its own.
// Threads: one, the HTTP server's.
#pragma once

#include <algorithm>
#include <functional>
#include <list>
#include <map>
#include <string>
#include <utility>

namespace venturi::server {

class Strangers {
 public:
  // Held until destruction, or until it has given way.
  class Place {
   public:
    // `peer`: where it comes from. `give_way` must not destroy the place.
    Place(Strangers& of, std::string peer, std::function<void()> give_way)
        : of_(of), peer_(std::move(peer)), give_way_(std::move(give_way)) {
      auto& places = of_.places_[peer_];
      at_ = places.insert(places.end(), this);
      ++of_.size_;
    }
    ~Place() { leave(); }
    Place(const Place&) = delete;

   private:
    friend class Strangers;
    void leave() {
      if (!std::exchange(there_, false)) return;
      const auto places = of_.places_.find(peer_);
      places->second.erase(at_);
      if (places->second.empty()) of_.places_.erase(places);
      --of_.size_;
    }
    Strangers& of_;
    const std::string peer_;
    const std::function<void()> give_way_;
    std::list<Place*>::iterator at_;
    bool there_ = true;
  };

  size_t size() const { return size_; }
  // False where there is nobody.
  bool drop_one() {
    const auto most = std::max_element(places_.begin(), places_.end(), [](const auto& a, const auto& b) { return a.second.size() < b.second.size(); });
    if (most == places_.end()) return false;
    Place& first = *most->second.front();
    first.leave();
    first.give_way_();
    return true;
  }

 private:
  std::map<std::string, std::list<Place*>> places_;  // by peer, in the order in which they came; none is empty
  size_t size_ = 0;
};

}  // namespace venturi::server
