// One way to log: spdlog on stderr, warnings and worse unless VENTURI_LOG says otherwise
// (trace, debug, info, warn, error, off).
#pragma once

#include <spdlog/spdlog.h>

namespace venturi {

void init_logging();  // once, from main

}  // namespace venturi
