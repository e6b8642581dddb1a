// venturi: one program, a subcommand a file.
//
// Exit codes: 0 done; 1 it failed (a file, a disk, a model); 2 the command line is wrong;
// 3 it does not fit the memory budget.
#include <CLI/CLI.hpp>

#include <cstdio>

#include "base/log.h"
#include "cli/command.h"
#include "command_registry.inc"

namespace venturi {

namespace {

int exit_code(const Error& error) {
  if (error.code == Code::kOutOfBudget) return 3;
  if (error.code == Code::kInvalidArgument) return 2;
  return 1;
}

int main(int argc, char** argv) {
  init_logging();
  CLI::App app{"Venturi runs large language models inside a stated budget."};
  app.name("venturi");
  app.set_version_flag("--version", "venturi " VENTURI_VERSION);
  app.require_subcommand(1);
  app.footer("Exit codes: 0 done, 1 failed, 2 wrong command line, 3 does not fit the memory budget.\n"
             "Every long flag has a mirror in the environment: --memory is VENTURI_MEMORY.");
  std::vector<std::pair<CLI::App*, std::function<Status()>>> commands;
  for (const Command* command : kAll_Command) {
    CLI::App* sub = app.add_subcommand(std::string(command->name), std::string(command->summary));
    commands.emplace_back(sub, command->setup(*sub));
    // VENTURI_<FLAG> for every long flag.
    for (CLI::Option* option : sub->get_options()) {
      if (option->get_lnames().empty() || option->get_lnames()[0] == "help") continue;
      std::string name = "VENTURI_" + option->get_lnames()[0];
      for (char& c : name) c = c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
      option->envname(name);
    }
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    const int code = app.exit(e);
    return code == 0 ? 0 : 2;
  }
  for (auto& [sub, action] : commands) {
    if (!sub->parsed()) continue;
    const Status status = action();
    if (!status) {
      std::fflush(stdout);
      std::fprintf(stderr, "venturi %s: %s\n", sub->get_name().c_str(), status.error().message.c_str());
      return exit_code(status.error());
    }
    if (std::fflush(stdout) != 0 || std::ferror(stdout)) {
      std::fprintf(stderr, "venturi %s: standard output could not be written to the end\n", sub->get_name().c_str());
      return 1;
    }
  }
  return 0;
}

}  // namespace

}  // namespace venturi

int main(int argc, char** argv) { return venturi::main(argc, argv); }
