#include "base/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>

#include <cstdlib>

namespace venturi {

void init_logging() {
  auto logger = spdlog::stderr_color_mt("venturi");
  logger->set_pattern("%^%l%$: %v");
  spdlog::set_default_logger(logger);
  const char* level = std::getenv("VENTURI_LOG");
  spdlog::set_level(level ? spdlog::level::from_str(level) : spdlog::level::warn);
}

}  // namespace venturi
