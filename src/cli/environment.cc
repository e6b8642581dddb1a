#include "cli/environment.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>

namespace venturi {

namespace {

bool is_set(const CLI::Option& option) {
  const std::string name = mirror_name(option);
  const char* value = name.empty() ? nullptr : std::getenv(name.c_str());
  return value && *value;
}

}  // namespace

std::string mirror_name(const CLI::Option& option) {
  if (option.get_lnames().empty() || option.get_lnames()[0] == "help") return "";
  std::string name = "VENTURI_" + option.get_lnames()[0];
  for (char& c : name) c = c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return name;
}

std::vector<std::string> enable_mirrors(CLI::App& chosen) {
  const std::vector<CLI::Option*> options = chosen.get_options();
  std::vector<CLI::Option*> active;  // given on the command line, or whose mirror counts
  std::vector<std::string> names;
  for (CLI::Option* option : options) {
    option->envname("");
    if (option->count() > 0) active.push_back(option);
  }
  const auto is_active = [&](const CLI::Option* option) {
    return std::find(active.begin(), active.end(), option) != active.end();
  };
  // Again until nothing is added: a mirror may be what another one needs.
  for (size_t before = options.size() + 1; before != active.size();) {
    before = active.size();
    for (CLI::Option* option : options) {
      if (is_active(option) || !is_set(*option)) continue;
      const auto& excluded = option->get_excludes();
      const auto& needed = option->get_needs();
      if (std::any_of(excluded.begin(), excluded.end(), is_active) || !std::all_of(needed.begin(), needed.end(), is_active)) continue;
      option->envname(mirror_name(*option));
      active.push_back(option);
      names.push_back(mirror_name(*option));
    }
  }
  return names;
}

void show_mirrors(CLI::App& app) {
  for (CLI::App* sub : app.get_subcommands(nullptr))
    for (CLI::Option* option : sub->get_options()) option->envname(mirror_name(*option));
}

}  // namespace venturi
