#include "cli/last_resort.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>

#include "base/clock.h"
#include "base/log.h"

namespace venturi {

LastResort::~LastResort() {
  {
    const std::lock_guard lock(mutex_);
    over_ = true;
  }
  changed_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void LastResort::in(double seconds) {
  const std::lock_guard lock(mutex_);
  end_ = std::min(end_, now_seconds() + seconds);
  if (!thread_.joinable()) thread_ = std::thread([this] { wait(); });
  changed_.notify_one();
}

void LastResort::wait() {
  std::unique_lock lock(mutex_);
  while (!over_) {
    const double left = end_ - now_seconds();
    if (left <= 0) {
      spdlog::warn("the time to end is over; what a step, a load or a disk still does is not waited for");
      ::_exit(0);
    }
    changed_.wait_for(lock, std::chrono::duration<double>(left));
  }
}

}  // namespace venturi
