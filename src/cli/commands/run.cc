// venturi run: one prompt, one answer, and a report of how it went against the bounds.
#include "cli/command.h"
#include "cli/flags.h"
#include "cli/text.h"
#include "base/clock.h"
#include "planner/probe.h"
#include "tokenizers/detokenizer.h"

#include <algorithm>

namespace venturi {

namespace {

struct Options {
  ModelFlags model;
  TextFlags text;
  int64_t n = 128;
  double temperature = 0.8;
  bool ids = false, quiet = false;
};

Status run(const Options& o) {
  auto engine = TRY(o.model.open());
  const Tokenizer* tokenizer = TRY(engine->tokenizer());
  const std::string prompt = TRY(o.text.text());
  std::vector<TokenId> tokens = tokenizer->encode(prompt);
  if (tokens.empty()) return error(Code::kInvalidArgument, "the prompt is empty; give one with -p or -f");
  auto sequence = TRY(engine->new_sequence());
  auto logits = TRY(engine->feed(*sequence, tokens));
  std::vector<TokenId> out;
  for (int64_t i = 0; i < o.n; ++i) {
    const TokenId next = static_cast<TokenId>(std::max_element(logits.begin(), logits.end()) - logits.begin());
    out.push_back(next);
    if (tokenizer->is_end_of_generation(next)) break;
    if (i + 1 < o.n) logits = TRY(engine->feed(*sequence, {&next, 1}));
  }
  std::string text;
  if (o.ids) for (auto id : out) text += fmt::format("{} ", id); else text = tokenizer->decode(out);
  print_out(text + "\n");
  return {};
}

}  // namespace

extern const Command command_run;
const Command command_run{"run", "Generate text from one prompt", [](CLI::App& app) -> std::function<Status()> {
  auto o = std::make_shared<Options>();
  o->model.add(app);
  o->text.add(app, "the prompt");
  app.add_option("-n,--predict", o->n, "tokens to generate at most");
  app.add_option("--temp", o->temperature, "temperature");
  app.add_flag("--ids", o->ids, "print ids");
  return [o] { return run(*o); };
}};

}  // namespace venturi
