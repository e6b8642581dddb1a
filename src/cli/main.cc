// venturi: one program, a subcommand a file.
//
// Exit codes: 0 done; 1 it failed (a file, a disk, a model); 2 the command line is wrong;
// 3 it does not fit the memory budget, or --min-tps.
#include <CLI/CLI.hpp>
#include <fmt/ranges.h>

#include <cstdio>
#include <new>
#include <span>

#include "base/log.h"
#include "cli/command.h"
#include "cli/environment.h"
#include "cli/nearest_word.h"
#include "cli/text.h"
#include "command_registry.inc"

namespace venturi {

namespace {

using Action = std::function<Status()>;
using Commands = std::vector<std::pair<CLI::App*, Action>>;

int exit_code(const Error& error) {
  if (error.code == Code::kOutOfBudget) return 3;
  if (error.code == Code::kInvalidArgument) return 2;
  return 1;
}

Commands add_commands(CLI::App& app) {
  app.name("venturi");
  app.set_version_flag("--version", "venturi " VENTURI_VERSION);
  app.require_subcommand(1);
  app.footer("Exit codes: 0 done, 1 failed, 2 wrong command line, 3 does not fit the memory budget (or --min-tps).\n"
             "Every long flag has a mirror in the environment: --memory is VENTURI_MEMORY.");
  Commands commands;
  for (const Command* command : kAll_Command) {
    CLI::App* sub = app.add_subcommand(std::string(command->name), std::string(command->summary));
    commands.emplace_back(sub, command->setup(*sub));
  }
  return commands;
}

std::string meant(std::string_view word, std::span<const std::string> known) {
  const std::string nearest = nearest_word(word, known);
  return nearest.empty() ? "" : fmt::format("; did you mean {}?", nearest);
}

// Why a command line has no command, where the word in its place is none.
std::string unknown_command(const Commands& commands, int argc, char** argv) {
  if (argc < 2 || argv[1][0] == '-') return "";
  std::vector<std::string> known;
  for (const auto& [sub, action] : commands) {
    if (sub->get_name() == argv[1]) return "";
    known.push_back(sub->get_name());
  }
  return fmt::format("venturi: there is no command '{}'{} There are {}", printable(argv[1]),
                     meant(argv[1], known).empty() ? "." : meant(argv[1], known), fmt::join(known, ", "));
}

// Likewise of a flag that the command has not.
std::string unknown_flag(const Commands& commands) {
  for (const auto& [sub, action] : commands) {
    if (!sub->parsed()) continue;
    std::vector<std::string> known;
    for (const CLI::Option* option : sub->get_options()) {
      for (const std::string& name : option->get_lnames()) known.push_back("--" + name);
      for (const std::string& name : option->get_snames()) known.push_back("-" + name);
    }
    for (const std::string& word : sub->remaining()) {
      if (word.size() < 2 || word[0] != '-') continue;
      const std::string flag = word.substr(0, word.find('='));
      return fmt::format("venturi {}: there is no flag '{}'{} All are in venturi {} --help", sub->get_name(), printable(flag),
                         meant(flag, known).empty() ? "." : meant(flag, known), sub->get_name());
    }
  }
  return "";
}

// Twice: first the command line alone, then with what the environment adds to it for the chosen command.
// Nothing where the program is to go on, else its exit code.
std::optional<int> parse(CLI::App& app, const Commands& commands, int argc, char** argv) {
  bool alone = true;
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& e) {  // help, version
    show_mirrors(app);
    return app.exit(e);
  } catch (const CLI::ParseError&) {
    alone = false;
  }
  std::vector<std::string> mirrors;
  for (const auto& [sub, action] : commands)
    if (sub->parsed()) mirrors = enable_mirrors(*sub);
  if (alone && mirrors.empty()) return std::nullopt;
  try {
    app.clear();
    app.parse(argc, argv);
    return std::nullopt;
  } catch (const CLI::ParseError& e) {
    std::string message = unknown_command(commands, argc, argv);
    if (message.empty() && dynamic_cast<const CLI::ExtrasError*>(&e)) message = unknown_flag(commands);
    if (!message.empty()) {
      std::fprintf(stderr, "%s\n", message.c_str());
      return 2;
    }
    if (!alone) {
      app.exit(e);
    } else {
      std::fprintf(stderr, "%s\nfrom the environment: %s\n", printable(e.what()).c_str(),
                   fmt::format("{}", fmt::join(mirrors, ", ")).c_str());
    }
    return 2;
  }
}

int run_command(const CLI::App& sub, const Action& action) {
  const Status status = action();
  if (!status) {
    std::fflush(stdout);
    std::fprintf(stderr, "venturi %s: %s\n", sub.get_name().c_str(), printable(status.error().message).c_str());
    return exit_code(status.error());
  }
  if (std::fflush(stdout) != 0 || std::ferror(stdout)) {
    std::fprintf(stderr, "venturi %s: standard output could not be written to the end\n", sub.get_name().c_str());
    return 1;
  }
  return 0;
}

int main(int argc, char** argv) {
  init_logging();
  CLI::App app{"Venturi runs large language models inside a stated budget."};
  const Commands commands = add_commands(app);
  if (const auto code = parse(app, commands, argc, argv)) return *code;
  for (const auto& [sub, action] : commands)
    if (sub->parsed()) return run_command(*sub, action);
  return 0;
}

}  // namespace

}  // namespace venturi

int main(int argc, char** argv) try {
  return venturi::main(argc, argv);
} catch (const std::bad_alloc&) {
  std::fputs("venturi: the system has no memory left\n", stderr);
  return 1;
} catch (const std::exception& e) {
  std::fprintf(stderr, "venturi: %s\n", e.what());
  return 1;
}
