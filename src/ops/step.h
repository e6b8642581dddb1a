// One step of a sequence model: a ragged batch of rows, cut into spans of consecutive tokens of
// one sequence. Prefill, a chunk of it, decoding of many streams and evaluation are all steps.
#pragma once

#include <cstdint>
#include <vector>

#include "cache/state.h"
#include "tokenizers/tokenizer.h"

namespace venturi {

class Adapter;

enum class Mask {
  kCausal,  // a token sees itself and what is before it
  kFull,    // every token of the span sees every other
};

struct Span {
  int64_t row_begin = 0, n_rows = 0;
  int64_t position = 0;             // of the first row in its sequence
  SequenceState* state = nullptr;   // null in shape mode
  Mask mask = Mask::kCausal;
  const Adapter* adapter = nullptr;  // that its rows go through; null: the weights alone (adapters.h)
};

struct Step {
  std::vector<TokenId> tokens;       // [n_rows]
  std::vector<Span> spans;           // cover the rows, in order
  std::vector<int64_t> output_rows;  // rows whose logits are wanted, ascending
  bool hidden = false;  // wanted of them are the last hidden states, after the last norm, and not logits
  bool spills = false;               // shape mode: state may be in a file, for which attention takes scratch
  int64_t n_rows() const { return static_cast<int64_t>(tokens.size()); }
};

}  // namespace venturi
