// venturi eval: perplexity of a text, and what a model loses against another: KL divergence and
// agreement of the top token.
#include "cli/command.h"
#include "cli/engine_pair.h"
#include "cli/flags.h"
#include "cli/prompt.h"
#include "cli/text.h"

#include <cmath>
#include <nlohmann/json.hpp>

namespace venturi {

namespace {

struct Options {
  ModelFlags model;
  TextFlags text;
  std::string base;
  int64_t window = 512, max_windows = 0;
  bool json = false;
};

// log softmax in double; returns log of the sum of exponentials with the maximum taken out.
double log_normaliser(std::span<const float> logits) {
  float top = logits[0];
  for (const float l : logits) top = std::max(top, l);
  double sum = 0;
  for (const float l : logits) sum += std::exp(static_cast<double>(l) - top);
  return top + std::log(sum);
}

struct Totals {
  double nll = 0, kl = 0, kl_squares = 0, kl_max = 0;
  int64_t tokens = 0, agree = 0;
};

Result<const Act*> run_window(Engine& engine, SequenceState& sequence, std::span<const TokenId> tokens,
                              int64_t first_output, Step& step) {
  sequence.truncate(0);
  step = {};
  step.tokens.assign(tokens.begin(), tokens.end());
  const int64_t n = static_cast<int64_t>(tokens.size());
  step.spans = {{.row_begin = 0, .n_rows = n, .position = 0, .state = &sequence, .adapter = engine.only_adapter()}};
  for (int64_t r = first_output; r < n - 1; ++r) step.output_rows.push_back(r);
  return engine.step(step);
}

// The tokens of the text, before a model is loaded: a text shorter than one window needs none.
Result<std::vector<TokenId>> tokenize(const Options& o) {
  const auto file = TRY(open_model(TRY(o.model.path())));
  auto tokenizer = Tokenizer::from_metadata(file->metadata);
  if (!tokenizer) return std::move(tokenizer).error().within(file->path);
  const auto ledger = Ledger::create(TRY(o.model.engine_options()).memory);
  std::vector<TokenId> tokens =
      TRY(encode_text(**tokenizer, file->metadata, *ledger, TRY(o.text.text()), {.add_special = false}));
  if (const auto bos = (*tokenizer)->bos()) tokens.insert(tokens.begin(), *bos);
  if (static_cast<int64_t>(tokens.size()) < o.window)
    return error(Code::kInvalidArgument, "the text has {} tokens, less than one window of {}", tokens.size(), o.window);
  return tokens;
}

Result<EnginePair> open_engines(const Options& o) {
  ModelFlags flags = o.model;
  flags.context = flags.batch = o.window;
  EnginePair engines;
  if (o.base.empty()) {
    engines.model = TRY(flags.open(o.window));
  } else {
    engines = TRY(open_pair(flags, o.base, o.window));
  }
  const Engine& engine = *engines.model;
  if (engine.info().embeds)
    return error(Code::kUnsupported, "{} gives embeddings, not logits: it has no perplexity", engine.file().path);
  if (engines.base && (engines.base->info().embeds || engines.base->info().vocab_size != engine.info().vocab_size))
    return error(Code::kInvalidArgument, "the models' vocabularies differ: {} and {}", engine.info().vocab_size,
                 engines.base->info().vocab_size);
  return engines;
}

Status run(const Options& o) {
  const std::vector<TokenId> tokens = TRY(tokenize(o));
  int64_t windows = static_cast<int64_t>(tokens.size()) / o.window;
  if (o.max_windows > 0) windows = std::min(windows, o.max_windows);
  const EnginePair engines = TRY(open_engines(o));
  const auto &engine = engines.model, &base = engines.base;
  const Tokenizer* tokenizer = TRY(engine->tokenizer());

  auto sequence = TRY(engine->new_sequence());
  std::unique_ptr<SequenceState> base_sequence;
  if (base) base_sequence = TRY(base->new_sequence());
  Totals totals;
  for (int64_t w = 0; w < windows; ++w) {
    std::vector<TokenId> window(tokens.begin() + w * o.window, tokens.begin() + (w + 1) * o.window);
    if (const auto bos = tokenizer->bos()) window[0] = *bos;
    Step step, base_step;
    const Act* logits = TRY(run_window(*engine, *sequence, window, o.window / 2, step));
    const Act* base_logits = base ? TRY(run_window(*base, *base_sequence, window, o.window / 2, base_step)) : nullptr;
    for (size_t i = 0; i < step.output_rows.size(); ++i) {
      const std::span<const float> row(logits->row(static_cast<int64_t>(i)), static_cast<size_t>(logits->cols()));
      const double z = log_normaliser(row);
      totals.nll += z - row[window[step.output_rows[i] + 1]];
      ++totals.tokens;
      if (!base_logits) continue;
      const std::span<const float> reference(base_logits->row(static_cast<int64_t>(i)), row.size());
      const double zr = log_normaliser(reference);
      double kl = 0;
      size_t top = 0, top_reference = 0;
      for (size_t v = 0; v < row.size(); ++v) {
        const double lp = reference[v] - zr;
        kl += std::exp(lp) * (lp - (row[v] - z));
        if (row[v] > row[top]) top = v;
        if (reference[v] > reference[top_reference]) top_reference = v;
      }
      totals.kl += kl;
      totals.kl_squares += kl * kl;
      totals.kl_max = std::max(totals.kl_max, kl);
      totals.agree += top == top_reference;
    }
  }
  const double n = static_cast<double>(totals.tokens);
  const double nll = totals.nll / n;
  nlohmann::ordered_json json;
  json["perplexity"] = std::exp(nll);
  json["nll"] = nll;
  json["tokens"] = totals.tokens;
  json["windows"] = windows;
  if (base) {
    const double mean = totals.kl / n;
    json["kl_divergence"] = mean;
    json["kl_standard_error"] = std::sqrt(std::max(0.0, totals.kl_squares / n - mean * mean) / n);
    json["kl_max"] = totals.kl_max;
    json["top_token_agreement"] = static_cast<double>(totals.agree) / n;
  }
  if (o.json) {
    print_out(json.dump(1) + "\n");
    return {};
  }
  std::string out = fmt::format("perplexity {:.4f} over {} tokens ({} windows of {})\n", std::exp(nll), totals.tokens, windows, o.window);
  if (base)
    out += fmt::format("against {}: KL divergence {:.6f} ± {:.6f}, largest {:.4f}, same top token {:.2f} %\n", o.base,
                       json["kl_divergence"].get<double>(), json["kl_standard_error"].get<double>(), totals.kl_max,
                       100.0 * static_cast<double>(totals.agree) / n);
  print_out(out);
  return {};
}

}  // namespace

extern const Command command_eval;
const Command command_eval{"eval", "Perplexity of a text; KL divergence against another model",
                           [](CLI::App& app) -> std::function<Status()> {
  auto o = std::make_shared<Options>();
  o->model.add(app);
  o->model.add_state(app);
  o->model.add_adapter(app);
  app.remove_option(app.get_option("--ctx"));
  app.remove_option(app.get_option("--batch"));
  app.add_option("-c,--ctx,--context", o->window, "tokens of a window, 4 or more; the second half of each is scored; 8k is 8192")
      ->check(CLI::Range(int64_t{4}, int64_t{1} << 30))
      ->transform(kTokenCount)
      ->capture_default_str();
  o->text.add(app, "the text");
  app.add_option("--base", o->base, "model to compare with: the full-precision one");
  app.add_option("--windows", o->max_windows, "at most this many windows (default: all)")->check(CLI::Range(int64_t{1}, int64_t{1} << 40));
  app.add_flag("--json", o->json, "JSON");
  return [o] { return run(*o); };
}};

}  // namespace venturi
