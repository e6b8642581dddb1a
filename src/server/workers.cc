#include "server/workers.h"

#include <sys/resource.h>
#include <unistd.h>

#include <utility>

namespace venturi::server {

namespace {

constexpr int kNice = 5;  // about a third of what a thread of the engine gets beside it

}  // namespace

Workers::Workers() : any_([this] { work(true); }), small_only_([this] { work(false); }) {}

Workers::~Workers() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  any_.join();
  small_only_.join();
}

bool Workers::add(uint64_t bytes, std::function<void()> job) {
  {
    const std::lock_guard lock(mutex_);
    if (small_.size() + large_.size() >= kMostWaiting) return false;
    (bytes > kSmall ? large_ : small_).push_back(std::move(job));
  }
  wake_.notify_all();
  return true;
}

bool Workers::idle() const {
  const std::lock_guard lock(mutex_);
  return small_.empty() && large_.empty() && at_work_ == 0;
}

Workers::Jobs* Workers::next(bool large_too) {
  if (large_too && !large_.empty()) return &large_;
  return small_.empty() ? nullptr : &small_;
}

void Workers::work(bool large_too) {
  setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), kNice);  // refused: as before
  std::unique_lock lock(mutex_);
  for (;;) {
    Jobs* from = nullptr;
    wake_.wait(lock, [&] { return stopping_ || (from = next(large_too)); });
    if (stopping_) return;
    std::function<void()> job = std::move(from->front());
    from->pop_front();
    ++at_work_;
    lock.unlock();
    job();
    job = nullptr;  // with all that it held
    lock.lock();
    --at_work_;
  }
}

}  // namespace venturi::server
