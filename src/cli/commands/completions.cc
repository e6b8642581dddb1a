// venturi completions: a script that teaches a shell the commands and flags, written from the
// program's own command tree, so that it cannot fall behind.
#include "cli/command.h"
#include "cli/text.h"

#include <algorithm>
#include <array>

namespace venturi {

namespace {

struct Flag {
  std::string short_name, long_name, description;  // names without dashes, possibly empty
  bool takes_value = false, takes_file = false;
};

struct CommandFlags {
  std::string name, description;
  std::vector<Flag> flags;
  std::vector<std::string> words;  // arguments without a dash
};

std::vector<Flag> flags_of(const CLI::App& app) {
  std::vector<Flag> flags;
  for (const CLI::Option* option : app.get_options()) {
    Flag flag;
    if (!option->get_snames().empty()) flag.short_name = option->get_snames()[0];
    if (!option->get_lnames().empty()) flag.long_name = option->get_lnames()[0];
    if (flag.short_name.empty() && flag.long_name.empty()) continue;
    flag.description = option->get_description();
    flag.takes_value = option->get_expected_max() > 0 && option->get_type_size_max() > 0;
    // What is text may be a file name; numbers are not.
    flag.takes_file = flag.takes_value && option->get_type_name().starts_with("TEXT");
    flags.push_back(flag);
    for (size_t i = 1; i < option->get_lnames().size(); ++i) {  // other names of the same
      flag.short_name.clear();
      flag.long_name = option->get_lnames()[i];
      flags.push_back(flag);
    }
  }
  return flags;
}

constexpr std::array<std::string_view, 3> kShells = {"bash", "zsh", "fish"};

std::vector<CommandFlags> commands_of(CLI::App& root) {
  std::vector<CommandFlags> commands;
  for (const CLI::App* app : root.get_subcommands(nullptr)) {
    CommandFlags command{.name = app->get_name(),
                         .description = app->get_description(),
                         .flags = flags_of(*app),
                         .words = {}};
    if (command.name == "completions") command.words.assign(kShells.begin(), kShells.end());
    commands.push_back(std::move(command));
  }
  return commands;
}

// "-m --model", for the flags that `wanted` says yes to.
template <typename Predicate>
std::string names(const std::vector<Flag>& flags, Predicate wanted) {
  std::string out;
  for (const Flag& flag : flags) {
    if (!wanted(flag)) continue;
    if (!flag.short_name.empty())
      out += fmt::format("{}-{}", out.empty() ? "" : " ", flag.short_name);
    if (!flag.long_name.empty())
      out += fmt::format("{}--{}", out.empty() ? "" : " ", flag.long_name);
  }
  return out;
}

std::string joined(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& word : words) out += (out.empty() ? "" : " ") + word;
  return out;
}

// Inside single quotes of a shell.
std::string quoted(const std::string& text, std::string_view also_escaped = "") {
  std::string out;
  for (const char c : text) {
    if (c == '\'') {
      out += "'\\''";
    } else {
      if (also_escaped.find(c) != std::string_view::npos) out += '\\';
      out += c;
    }
  }
  return out;
}

std::string bash_script(const std::vector<CommandFlags>& commands, const std::vector<Flag>& top) {
  std::string all;
  std::string cases;
  const auto add_case = [&](const std::string& pattern, const std::vector<Flag>& flags,
                            const std::string& words) {
    cases += fmt::format(
        "    {})\n      words='{}'\n      files='{}'\n      values='{}' ;;\n", pattern,
        words + (words.empty() ? "" : " ") + names(flags, [](const Flag&) { return true; }),
        names(flags, [](const Flag& f) { return f.takes_file; }),
        names(flags, [](const Flag& f) { return f.takes_value && !f.takes_file; }));
  };
  for (const CommandFlags& command : commands) all += (all.empty() ? "" : " ") + command.name;
  add_case("''", top, all);
  for (const CommandFlags& command : commands)
    add_case(command.name, command.flags, joined(command.words));
  return fmt::format(R"(# bash completion for venturi: source it, or keep it in
# ~/.local/share/bash-completion/completions/venturi
_venturi() {{
  local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD - 1]}}
  local command='' words='' files='' values='' i
  for ((i = 1; i < COMP_CWORD; ++i)); do
    [[ ${{COMP_WORDS[i]}} != -* ]] && command=${{COMP_WORDS[i]}} && break
  done
  case $command in
{}  esac
  COMPREPLY=()
  if [[ " $files " == *" $previous "* ]]; then
    mapfile -t COMPREPLY < <(compgen -f -- "$current")
  elif [[ " $values " != *" $previous "* ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
  fi
}}
complete -o filenames -F _venturi venturi
)",
                     cases);
}

std::string zsh_flags(const std::vector<Flag>& flags, const std::string& indent) {
  std::string out;
  for (const Flag& flag : flags) {
    std::string text = fmt::format("[{}]", quoted(flag.description, "[]:\\"));
    if (flag.takes_value) text += flag.takes_file ? ":value:_files" : ":value: ";
    if (!flag.short_name.empty() && !flag.long_name.empty()) {
      out += fmt::format(" \\\n{}'(-{} --{})'{{-{},--{}}}'{}'", indent, flag.short_name,
                         flag.long_name, flag.short_name, flag.long_name, text);
    } else {
      out += fmt::format(" \\\n{}'{}{}{}'", indent, flag.long_name.empty() ? "-" : "--",
                         flag.long_name.empty() ? flag.short_name : flag.long_name, text);
    }
  }
  return out;
}

std::string zsh_script(const std::vector<CommandFlags>& commands, const std::vector<Flag>& top) {
  std::string list, cases;
  for (const CommandFlags& command : commands) {
    list += fmt::format("    '{}:{}'\n", command.name, quoted(command.description, ":\\"));
    const std::string words =
        command.words.empty() ? "" : fmt::format(" \\\n        '1: :({})'", joined(command.words));
    cases += fmt::format("    {})\n      _arguments{}{} ;;\n", command.name,
                         zsh_flags(command.flags, "        "), words);
  }
  return fmt::format(R"(#compdef venturi
# zsh completion for venturi: keep it as _venturi in a folder of $fpath.
_venturi() {{
  local -a commands
  commands=(
{})
  local state line
  _arguments -C{} \
    '1:command:->command' '*::argument:->argument'
  case $state in
    command) _describe command commands; return ;;
  esac
  case $line[1] in
{}  esac
}}
compdef _venturi venturi
)",
                     list, zsh_flags(top, "    "), cases);
}

std::string fish_flag(const Flag& flag, const std::string& condition) {
  std::string out = fmt::format("complete -c venturi -n '{}'", condition);
  if (!flag.short_name.empty()) out += " -s " + flag.short_name;
  if (!flag.long_name.empty()) out += " -l " + flag.long_name;
  if (flag.takes_value) out += flag.takes_file ? " -r -F" : " -x";
  // In fish a backslash escapes inside single quotes too.
  std::string description;
  for (const char c : flag.description) {
    if (c == '\'' || c == '\\') description += '\\';
    description += c;
  }
  return out + fmt::format(" -d '{}'\n", description);
}

std::string fish_script(const std::vector<CommandFlags>& commands, const std::vector<Flag>& top) {
  std::string out =
      "# fish completion for venturi: keep it as ~/.config/fish/completions/venturi.fish\n"
      "complete -c venturi -f\n";
  for (const Flag& flag : top) out += fish_flag(flag, "__fish_use_subcommand");
  for (const CommandFlags& command : commands) {
    out += fish_flag({.short_name = {}, .long_name = {}, .description = command.description},
                     "__fish_use_subcommand' -a '" + command.name);
    const std::string condition = "__fish_seen_subcommand_from " + command.name;
    if (!command.words.empty())
      out += fmt::format("complete -c venturi -n '{}' -a '{}'\n", condition, joined(command.words));
    for (const Flag& flag : command.flags) out += fish_flag(flag, condition);
  }
  return out;
}

Status run(CLI::App& root, const std::string& shell) {
  const auto commands = commands_of(root);
  const auto top = flags_of(root);
  if (shell == "bash") print_out(bash_script(commands, top));
  if (shell == "zsh") print_out(zsh_script(commands, top));
  if (shell == "fish") print_out(fish_script(commands, top));
  return {};
}

}  // namespace

extern const Command command_completions;
const Command command_completions{"completions", "Write a completion script for bash, zsh or fish",
                                  [](CLI::App& app) -> std::function<Status()> {
                                    auto shell = std::make_shared<std::string>();
                                    app.add_option("shell", *shell, "bash, zsh or fish")
                                        ->required()
                                        ->check(CLI::IsMember({"bash", "zsh", "fish"}));
                                    CLI::App* root = app.get_parent();
                                    return [root, shell] { return run(*root, *shell); };
                                  }};

}  // namespace venturi
