#include "engine/generate.h"

#include "base/clock.h"

namespace venturi {

Result<GenerationReport> generate(Engine& engine, SequenceState& sequence, Sampler& sampler,
                                  std::span<const TokenId> prompt, const GenerateOptions& options) {
  GenerationReport report;
  report.prompt_tokens = static_cast<int64_t>(prompt.size());
  const Tokenizer* tokenizer = TRY(engine.tokenizer());
  const double begin = now_seconds();
  for (const TokenId id : prompt) sampler.accept(id);
  std::span<const float> logits = TRY(engine.feed(sequence, prompt));
  report.prefill_seconds = now_seconds() - begin;
  std::vector<float> masked;
  double first = 0;
  for (int64_t i = 0; i < options.max_tokens; ++i) {
    if (options.constraint) {
      masked.assign(logits.begin(), logits.end());
      if (auto status = options.constraint->mask(masked); !status) return std::move(status).error();
      logits = masked;
    }
    const TokenId id = TRY(sampler.sample(logits, static_cast<uint64_t>(sequence.length())));
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
    if (i + 1 < options.max_tokens) logits = TRY(engine.feed(sequence, {&id, 1}));
  }
  return report;
}

}  // namespace venturi
