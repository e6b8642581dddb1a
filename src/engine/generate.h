// Tokens from a sequence, one after another.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "engine/engine.h"
#include "engine/speculator.h"
#include "grammar/constraint.h"
#include "models/sampling.h"

namespace venturi {

struct GenerationReport {
  int64_t prompt_tokens = 0, generated_tokens = 0;
  double prefill_seconds = 0;  // to the logits after the prompt
  double decode_seconds = 0;   // of the tokens after the first
  double first_token_seconds = 0;
  int64_t guessed_tokens = 0, held_tokens = 0;  // guesses checked, and drawn
  bool ended = false;          // by a token that ends generation or a whole text of the grammar, not by the limit

  double prefill_rate() const { return prefill_seconds > 0 ? prompt_tokens / prefill_seconds : 0; }
  double decode_rate() const { return decode_seconds > 0 ? (generated_tokens - 1) / decode_seconds : 0; }
};

struct GenerateOptions {
  int64_t max_tokens = 128;
  bool ignore_end = false;  // go on after a token that ends generation
  grammar::Constraint* constraint = nullptr;  // what may be drawn; generation ends when its text is whole
  const Adapter* adapter = nullptr;  // of the engine's
  Speculator* speculator = nullptr;  // guesses what comes next; the same tokens, sooner
  // Called with each token; false stops.
  std::function<bool(TokenId)> on_token;
};

// Feeds `prompt` to the sequence and draws up to max_tokens. The tokens drawn are part of the
// sequence afterwards, but for the last one.
Result<GenerationReport> generate(Engine& engine, SequenceState& sequence, Sampler& sampler,
                                  std::span<const TokenId> prompt, const GenerateOptions& options);

}  // namespace venturi
