#include "cli/interrupt.h"

#include <csignal>

namespace venturi {

namespace {

volatile std::sig_atomic_t g_interrupted = 0;

void arm(void (*handler)(int), int flags) {
  struct sigaction action = {};
  action.sa_handler = handler;
  action.sa_flags = flags;
  sigaction(SIGINT, &action, nullptr);
}

// Not restarting: a read that waits for a line returns. The handler is gone after the first signal.
void note(int) { g_interrupted = 1; }

}  // namespace

InterruptWatch::InterruptWatch(bool active) {
  g_interrupted = 0;
  if (active) arm(note, static_cast<int>(SA_RESETHAND));
}

InterruptWatch::~InterruptWatch() { arm(SIG_DFL, 0); }

bool InterruptWatch::noted() const { return g_interrupted != 0; }

bool InterruptWatch::take() {
  if (g_interrupted == 0) return false;
  g_interrupted = 0;
  arm(note, static_cast<int>(SA_RESETHAND));
  return true;
}

}  // namespace venturi
