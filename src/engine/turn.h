// Whose turn it is on the machine's cores: the services of several models share them, a step each, in the order
// in which they ask. Without it their thread pools would take the cores from each other within a step.
//
// std::unique_lock<Turn> holds it. Threads: any.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>

namespace venturi {

class Turn {
 public:
  void lock() {
    std::unique_lock lock(mutex_);
    const uint64_t mine = arrived_++;
    next_.wait(lock, [&] { return served_ == mine; });
  }
  void unlock() {
    {
      const std::lock_guard lock(mutex_);
      ++served_;
    }
    next_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable next_;
  uint64_t arrived_ = 0, served_ = 0;
};

// Holds nothing where there is none.
inline std::unique_lock<Turn> take_turn(Turn* turn) {
  return turn ? std::unique_lock<Turn>(*turn) : std::unique_lock<Turn>();
}

}  // namespace venturi
