// An architecture: one file in this folder that defines `const Architecture architecture_x`. It reads
// its hyper-parameters, declares its weights and slots, and writes its forward pass once, as ops on a
// context. The build lists the folder and writes the registry.
//
// The model knows nothing of requests: a Step goes in, logits (or embeddings) of the rows asked for
// come out. Threads: const after creation and set_context().
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "cache/state.h"
#include "memory/weights.h"
#include "ops/context.h"
#include "ops/step.h"

namespace venturi {

struct ModelInfo {
  std::string architecture, name;
  int64_t n_layers = 0, d_model = 0, vocab_size = 0;
  int64_t trained_context = 0;   // tokens
  int64_t max_context = 0;       // positions the model has a table for; 0: any
  bool embeds = false;           // one embedding [d_model] per span comes out, not logits
  bool whole_spans = false;      // every token sees every other: a sequence cannot be fed in parts
  std::vector<SlotSpec> slots = {};  // of the sequence state
};

class Model {
 public:
  virtual ~Model() = default;
  // How many tokens a sequence may hold at most, once that is known and before the first step:
  // position schemes that grow with the context are fixed by it.
  virtual void set_context(int64_t /*tokens*/) {}
  // [step.output_rows.size(), vocab_size] logits, or d_model wide where hidden states are wanted; or
  // [step.spans.size(), d_model] if it embeds.
  virtual Act forward(Context& context, const Step& step) const = 0;

  const ModelInfo& info() const { return info_; }

 protected:
  ModelInfo info_;
};

struct Architecture {
  std::string_view name;  // as in general.architecture
  Result<std::unique_ptr<Model>> (*create)(const Metadata& metadata, WeightCatalog& catalog);
};

std::span<const Architecture* const> all_architectures();
// By the file's general.architecture; Code::kUnsupported naming it and what is known.
Result<std::unique_ptr<Model>> create_model(const ModelFile& file, WeightCatalog& catalog);

}  // namespace venturi
