// Flags from the environment: VENTURI_<FLAG> for every long flag of the subcommand that was chosen.
//
// A mirror is a default. It gives way to the flag itself and to every flag on the command line that excludes
// its flag, and counts for nothing where what its flag needs is absent. Of mirrors that exclude each other the
// first in --help counts.
#pragma once

#include <CLI/CLI.hpp>

#include <string>
#include <vector>

namespace venturi {

// "VENTURI_TOP_K" of --top-k; empty for what has no mirror.
std::string mirror_name(const CLI::Option& option);

// Lets `chosen` read its mirrors in the parse that follows. Call it after a parse of the command line alone,
// whose counts tell what was given there. Returns the variables that will be read.
std::vector<std::string> enable_mirrors(CLI::App& chosen);

// Names every mirror, for --help; nothing may be parsed afterwards.
void show_mirrors(CLI::App& app);

}  // namespace venturi
