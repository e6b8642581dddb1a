// venturi run: one prompt, one answer, and a report of how it went against the bounds.
#include "cli/command.h"
#include "cli/flags.h"
#include "cli/grammar_flags.h"
#include "cli/prediction.h"
#include "cli/prompt.h"
#include "cli/report.h"
#include "cli/sampling_flags.h"
#include "cli/speculation_flags.h"
#include "cli/text.h"
#include "base/log.h"
#include "tokenizers/detokenizer.h"

namespace venturi {

namespace {

struct Options {
  ModelFlags model;
  TextFlags text;
  SamplingFlags sampling;
  GrammarFlags grammar;
  SpeculationFlags speculation;
  int64_t n = 128;
  bool ids = false, quiet = false, ignore_eos = false, special = false;
};

Status run(const Options& o) {
  TRY(o.text.check());
  Sampler sampler = TRY(o.sampling.sampler());
  auto plan = TRY(o.model.load_plan());
  ModelFlags model = o.model;
  auto draft = TRY(o.speculation.open_draft(model, 1));
  auto engine = TRY(model.open(o.speculation.outputs(1)));
  if (engine->info().embeds)
    return error(Code::kUnsupported, "{} gives embeddings, not text", engine->file().path);
  const auto speculator = TRY(o.speculation.speculator(*engine, std::move(draft)));
  const Tokenizer* tokenizer = TRY(engine->tokenizer());
  const std::string prompt = TRY(read_prompt(o.text, *engine, o.model.context > 0));
  const std::vector<TokenId> tokens = TRY(encode_text(*engine, prompt, {.parse_special = o.special}));
  if (tokens.empty()) return error(Code::kInvalidArgument, "the prompt is empty; give one with -p TEXT or -f FILE");
  const int64_t context = engine->options().context, room = context - static_cast<int64_t>(tokens.size());
  if (room < 0)
    return too_long(*engine, o.model.context > 0, fmt::format("the prompt has {} tokens", tokens.size()),
                    static_cast<int64_t>(tokens.size()));
  const auto constraint = TRY(o.grammar.constraint(*tokenizer));
  auto sequence = TRY(engine->new_sequence());
  Detokenizer detokenizer(*tokenizer, o.special);
  if (!o.ids) print_out(prompt);
  bool first = true;
  GenerateOptions options;
  // The last token drawn takes no place.
  options.max_tokens = std::min(o.n, room + 1);
  options.ignore_end = o.ignore_eos;
  options.constraint = constraint.get();
  options.speculator = speculator.get();
  options.adapter = engine->only_adapter();
  options.on_token = [&](TokenId id) {
    if (o.ids) {
      print_out(fmt::format("{}{}", first ? "" : " ", id));
    } else {
      print_out(detokenizer.push(id));
    }
    first = false;
    return true;
  };
  const GenerationReport report = TRY(generate(*engine, *sequence, sampler, tokens, options));
  print_out((o.ids ? "" : detokenizer.finish()) + "\n");
  if (report.generated_tokens < o.n && !report.ended)
    spdlog::warn("stopped after {} tokens: the context of {} is full (-c)", report.generated_tokens, context);
  if (constraint && !constraint->complete())
    spdlog::warn("the text was cut after {} tokens, before its form was whole{}", report.generated_tokens,
                 report.generated_tokens < o.n ? "" : " (-n)");
  if (!o.quiet) {
    const PredictionBasis basis = prediction_basis(*engine, std::move(plan));
    std::string text = "\n" + generation_report(*engine, report, basis.plan ? &*basis.plan : nullptr);
    if (!o.model.memory.empty()) text += basis.hint;
    std::fputs(text.c_str(), stderr);
  }
  return {};
}

}  // namespace

extern const Command command_run;
const Command command_run{"run", "Generate text from one prompt", [](CLI::App& app) -> std::function<Status()> {
  auto o = std::make_shared<Options>();
  o->model.add(app);
  o->model.add_state(app);
  o->model.add_adapter(app);
  o->model.add_plan(app);
  o->text.add(app, "the prompt");
  app.add_option("-n,--predict", o->n, "tokens to generate at most")->check(CLI::Range(int64_t{1}, int64_t{1} << 30))->capture_default_str();
  o->sampling.add(app);
  o->grammar.add(app);
  o->speculation.add(app);
  app.add_flag("--ids", o->ids, "print the generated ids on one line instead of text");
  app.add_flag("--ignore-eos", o->ignore_eos, "go on after a token that ends the text");
  app.add_flag("--special", o->special, "control tokens in the prompt become their ids, and are shown in the output");
  app.add_flag("-q,--quiet", o->quiet, "no report at the end");
  return [o] { return run(*o); };
}};

}  // namespace venturi
