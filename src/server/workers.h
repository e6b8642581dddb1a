// Work on requests that would keep the server's thread from all others: reading, tokenizing and compiling what is large.
//
// Two threads that give way to the engine's: one takes small jobs only, so that they never wait for a large one; the
// other takes large ones first. Of a kind, first come, first served. Threads: every member may be called from any thread.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

namespace venturi::server {

class Workers {
 public:
  static constexpr uint64_t kSmall = 64u << 10;  // bytes of a request
  static constexpr size_t kMostWaiting = 1024;

  Workers();
  // After the job at hand; those that wait are dropped.
  ~Workers();
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  // False where too many wait: it will not be done.
  bool add(uint64_t bytes, std::function<void()> job);
  bool idle() const;

 private:
  using Jobs = std::deque<std::function<void()>>;
  void work(bool large_too);
  Jobs* next(bool large_too);

  mutable std::mutex mutex_;  // of what follows
  std::condition_variable wake_;
  Jobs small_, large_;
  int at_work_ = 0;
  bool stopping_ = false;

  std::thread any_, small_only_;  // last
};

}  // namespace venturi::server
