// One way to time.
#pragma once

#include <chrono>

namespace venturi {

inline double now_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace venturi
