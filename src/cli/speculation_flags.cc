#include "cli/speculation_flags.h"

namespace venturi {

void SpeculationFlags::add(CLI::App& app) {
  app.add_flag("--lookup", lookup,
               "guess the next tokens from what followed the last ones before, and check several in one step (the same results, sooner where a text repeats itself)");
  app.add_option("--draft-model", draft_model,
                 "guess them with this smaller model of the same vocabulary (the same results; after --lookup, where that finds nothing)");
  app.add_option("--draft-tokens", most, "tokens guessed for a step at most")->check(CLI::Range(1, 64))->capture_default_str();
}

Result<std::unique_ptr<Engine>> SpeculationFlags::open_draft(ModelFlags& model, int streams) const {
  if (draft_model.empty()) return std::unique_ptr<Engine>();
  EngineOptions o;
  if (!model.memory.empty()) {
    o.memory = TRY(parse_bytes(model.memory));
    o.state_memory = o.memory / 8;
  }
  o.context = model.context;
  o.batch = 64;  // of a prompt that it catches up with, beside a step
  o.outputs = o.sequences = streams;
  o.threads = model.threads;
  o.ledger = model.ledger;
  o.pool = model.pool;
  o.repack = !model.no_repack;
  o.shared_state = true;
  o.prefix_cache = false;
  o.sparse = false;
  auto draft = Engine::open(draft_model, o);
  if (!draft) return std::move(draft).error().within("the draft model");
  if ((*draft)->residency().streams() || (*draft)->state_pool().file())
    return error(Code::kOutOfBudget,
                 "the draft model {} has no room beside the model: all its weights, and its keys and values in an eighth of {}; "
                 "give more --memory or less -c",
                 draft_model, format_bytes(o.memory));
  model.ledger = (*draft)->shared_ledger();
  model.pool = (*draft)->shared_pool();
  return draft;
}

Result<std::shared_ptr<Speculator>> SpeculationFlags::speculator(const Engine& engine, std::unique_ptr<Engine> draft) const {
  if (!wanted()) return std::shared_ptr<Speculator>();
  std::vector<std::unique_ptr<Drafter>> drafters;
  if (lookup) drafters.push_back(lookup_drafter());
  if (draft) drafters.push_back(TRY(model_drafter(std::move(draft), engine)));
  auto speculator = std::make_shared<Speculator>(std::move(drafters), most);
  TRY(check_speculation(engine, speculator.get()));
  return speculator;
}

}  // namespace venturi
