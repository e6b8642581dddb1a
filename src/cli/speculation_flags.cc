#include "cli/speculation_flags.h"

namespace venturi {

void SpeculationFlags::add(CLI::App& app) {
  app.add_flag("--lookup", lookup,
               "guess the next tokens from what followed the last ones before, and check several in one step (the same results, sooner where a text repeats itself)");
  app.add_option("--draft-tokens", most, "tokens guessed for a step at most")->check(CLI::Range(1, 64))->capture_default_str();
}

std::shared_ptr<Speculator> SpeculationFlags::speculator() const {
  if (!wanted()) return nullptr;
  std::vector<std::unique_ptr<Drafter>> drafters;
  if (lookup) drafters.push_back(lookup_drafter());
  return std::make_shared<Speculator>(std::move(drafters), most);
}

}  // namespace venturi
