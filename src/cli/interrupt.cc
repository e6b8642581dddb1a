#include "cli/interrupt.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdint>

namespace venturi {

namespace {

volatile std::sig_atomic_t g_interrupted = 0, g_wake_fd = -1;

void arm(void (*handler)(int), int flags) {
  struct sigaction action = {};
  action.sa_handler = handler;
  action.sa_flags = flags;
  sigaction(SIGINT, &action, nullptr);
}

// The handler is gone after the first signal.
void note(int) {
  const int saved = errno;
  g_interrupted = 1;
  const uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(g_wake_fd, &one, sizeof one);
  errno = saved;
}

}  // namespace

InterruptWatch::InterruptWatch(bool active) {
  g_interrupted = 0;
  if (!active) return;
  g_wake_fd = wake_fd_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  arm(note, static_cast<int>(SA_RESETHAND));
}

InterruptWatch::~InterruptWatch() {
  if (wake_fd_ < 0) return;
  arm(SIG_DFL, 0);
  ::close(wake_fd_);
}

bool InterruptWatch::noted() const { return g_interrupted != 0; }

bool InterruptWatch::take() {
  if (g_interrupted == 0) return false;
  g_interrupted = 0;
  uint64_t count;
  [[maybe_unused]] const auto got = ::read(wake_fd_, &count, sizeof count);
  arm(note, static_cast<int>(SA_RESETHAND));
  return true;
}

}  // namespace venturi
