// The end of the program that comes whatever a step, a load of a model or a disk still does.
#pragma once

#include <condition_variable>
#include <limits>
#include <mutex>
#include <thread>

namespace venturi {

// Any thread may call it. Destroyed in time, it does nothing.
class LastResort {
 public:
  LastResort() = default;
  ~LastResort();
  LastResort(const LastResort&) = delete;
  LastResort& operator=(const LastResort&) = delete;

  // Ends the program in so many seconds, with exit code 0 and without a word to destructors, unless an earlier call
  // said sooner.
  void in(double seconds);

 private:
  void wait();

  std::mutex mutex_;
  std::condition_variable changed_;
  double end_ = std::numeric_limits<double>::infinity();
  bool over_ = false;
  std::thread thread_;
};

}  // namespace venturi
