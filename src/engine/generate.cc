#include "engine/generate.h"

#include <algorithm>

#include "base/clock.h"

namespace venturi {

namespace {

// Rows of logits, one after another: after what is known, and, with a speculator, after each guess.
class Rows {
 public:
  Rows(Engine& engine, SequenceState& sequence, const Sampler& sampler, const GenerateOptions& options)
      : engine_(engine), sequence_(sequence), sampler_(sampler), adapter_(options.adapter), speculator_(options.speculator) {}

  Result<std::span<const float>> prefill(std::span<const TokenId> prompt) {
    if (speculator_) known_.assign(prompt.begin(), prompt.end());
    const double begin = now_seconds();
    const std::span<const float> row = TRY(engine_.feed(sequence_, prompt, adapter_));
    observe(static_cast<int64_t>(prompt.size()), now_seconds() - begin);
    return row;
  }
  // The position of the token that is drawn from the row at hand.
  int64_t position() const { return sequence_.length() - static_cast<int64_t>(guesses_.size()) + at_; }
  // The row after `drawn`; `wanted`: tokens that are to be drawn yet.
  Result<std::span<const float>> next(TokenId drawn, int64_t wanted) {
    if (!speculator_) return engine_.feed(sequence_, {&drawn, 1}, adapter_);
    known_.push_back(drawn);
    if (at_ < static_cast<int64_t>(guesses_.size()) && guesses_[at_] == drawn)
      return std::span<const float>{logits_->row(++at_), static_cast<size_t>(logits_->cols())};
    settle();
    guess(wanted);
    Step step;
    step.tokens = {drawn};
    step.tokens.insert(step.tokens.end(), guesses_.begin(), guesses_.end());
    step.spans = {{.row_begin = 0, .n_rows = step.n_rows(), .position = sequence_.length(), .state = &sequence_, .adapter = adapter_}};
    for (int64_t i = 0; i < step.n_rows(); ++i) step.output_rows.push_back(i);
    const double begin = now_seconds();
    logits_ = TRY(engine_.step(step));
    observe(step.n_rows(), now_seconds() - begin);
    return std::span<const float>{logits_->row(0), static_cast<size_t>(logits_->cols())};
  }
  // Forgets the guesses that were not drawn.
  void settle() {
    if (guesses_.empty()) return;
    (void)sequence_.truncate(position());
    speculator_->learn(0, static_cast<int64_t>(guesses_.size()), at_);
    guessed_ += static_cast<int64_t>(guesses_.size());
    held_ += at_;
    guesses_.clear();
    at_ = 0;
  }
  int64_t guessed() const { return guessed_; }
  int64_t held() const { return held_; }

 private:
  void guess(int64_t wanted) {
    const EngineOptions& o = engine_.options();
    const int64_t room = std::min({o.batch, o.outputs, o.context - sequence_.length()}) - 1;
    Guessing stream{.tokens = known_, .sampler = &sampler_, .position = static_cast<uint64_t>(sequence_.length()) + 1, .most = std::min(room, wanted - 1)};
    speculator_->guess({&stream, 1}, cost_);
    guesses_ = std::move(stream.guesses);
  }
  void observe(int64_t rows, double seconds) {
    cost_.observe(rows, rows * (sequence_.length() - rows / 2), seconds);
  }

  Engine& engine_;
  SequenceState& sequence_;
  const Sampler& sampler_;
  const Adapter* const adapter_;
  Speculator* const speculator_;
  StepCost cost_;
  const Act* logits_ = nullptr;
  std::vector<TokenId> known_, guesses_;  // guesses_: whose rows are there
  int64_t at_ = 0;                        // of them, drawn
  int64_t guessed_ = 0, held_ = 0;
};

}  // namespace

Result<GenerationReport> generate(Engine& engine, SequenceState& sequence, Sampler& sampler,
                                  std::span<const TokenId> prompt, const GenerateOptions& options) {
  GenerationReport report;
  report.prompt_tokens = static_cast<int64_t>(prompt.size());
  const Tokenizer* tokenizer = TRY(engine.tokenizer());
  TRY(check_speculation(engine, options.speculator));
  const double begin = now_seconds();
  for (const TokenId id : prompt) sampler.accept_prompt(id);
  Rows rows(engine, sequence, sampler, options);
  std::span<const float> logits = TRY(rows.prefill(prompt));
  report.prefill_seconds = now_seconds() - begin;
  std::vector<float> masked;
  double first = 0;
  for (int64_t i = 0; i < options.max_tokens; ++i) {
    if (options.constraint) {
      masked.assign(logits.begin(), logits.end());
      if (auto status = options.constraint->mask(masked); !status) return std::move(status).error();
      logits = masked;
    }
    const TokenId id = TRY(sampler.sample(logits, static_cast<uint64_t>(rows.position())));
    sampler.accept(id);
    if (options.constraint)
      if (auto status = options.constraint->accept(id); !status) return std::move(status).error();
    ++report.generated_tokens;
    const double now = now_seconds();
    if (i == 0) {
      first = now;
      report.first_token_seconds = now - begin;
    }
    report.decode_seconds = now - first;
    if (!options.ignore_end && tokenizer->is_end_of_generation(id)) {
      report.ended = true;
      if (options.on_token) options.on_token(id);
      break;
    }
    if (options.on_token && !options.on_token(id)) break;
    if (options.constraint && options.constraint->finished()) {
      report.ended = true;
      break;
    }
    if (i + 1 < options.max_tokens) logits = TRY(rows.next(id, options.max_tokens - i - 1));
  }
  rows.settle();
  report.guessed_tokens = rows.guessed();
  report.held_tokens = rows.held();
  if (options.speculator) options.speculator->forget(0);
  return report;
}

}  // namespace venturi
