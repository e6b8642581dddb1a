// A progress line on standard error: on a terminal only, and only for work that takes over a second.
#pragma once

#include <unistd.h>

#include <cstdio>
#include <string>

#include "base/clock.h"

namespace venturi {

class ProgressLine {
 public:
  explicit ProgressLine(std::string what) : what_(std::move(what)) {}
  ~ProgressLine() {
    if (shown_) std::fputs("\r\033[K", stderr);
  }
  void update(double share) {
    const double now = now_seconds();
    if (!terminal_ || now - begin_ < 1 || now - last_ < 0.1) return;
    last_ = now;
    shown_ = true;
    std::fprintf(stderr, "\r%s %3.0f %%", what_.c_str(), 100 * share);
  }

 private:
  std::string what_;
  const bool terminal_ = isatty(2);
  const double begin_ = now_seconds();
  double last_ = 0;
  bool shown_ = false;
};

}  // namespace venturi
