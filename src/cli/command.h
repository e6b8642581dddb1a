// A subcommand is one file in commands/, `x.cc`, that defines `const Command command_x`.
#pragma once

#include <CLI/CLI.hpp>

#include <functional>
#include <string_view>

#include "base/result.h"

namespace venturi {

struct Command {
  std::string_view name, summary;
  // Adds flags to `app` and returns what to do once they are parsed.
  std::function<Status()> (*setup)(CLI::App& app);
};

}  // namespace venturi
