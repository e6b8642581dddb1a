// The façade: a model opened inside a budget.
//
// open() reads headers, runs the architecture in shape mode, adds up what weights, sequence state
// and activations will take, and refuses before loading what does not fit, with the largest setting
// that would. Then it loads. Threads: one caller at a time.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/ledger.h"
#include "base/thread_pool.h"
#include "models/architecture.h"
#include "tokenizers/tokenizer.h"

namespace venturi {

struct EngineOptions {
  uint64_t memory = Ledger::kUnlimited;  // bytes for weights, state, activations and buffers together
  int64_t context = 0;     // tokens per sequence; 0: what the model was trained for, at most 4096,
                           // and less where only less fits the budget
  int64_t batch = 512;     // rows of a step at most
  int64_t outputs = 1;     // rows of a step whose logits are wanted at most
  int sequences = 1;
  int threads = 0;         // 0: what affinity and quota allow
  bool repack = true;
  std::function<void(uint64_t done, uint64_t total)> progress;  // of loading
};

// What a setting takes, known from shape mode.
struct Footprint {
  uint64_t weights = 0, staging = 0, state = 0, activations = 0;
  // Staging is given back before the activations are drawn.
  uint64_t peak() const { return weights + state + std::max(staging, activations); }
};

class Engine {
 public:
  static Result<std::unique_ptr<Engine>> open(const std::string& path, const EngineOptions& options);

  const ModelFile& file() const { return *file_; }
  const Model& model() const { return *model_; }
  const ModelInfo& info() const { return model_->info(); }
  // Code::kNotFound when the file has no tokenizer.
  Result<const Tokenizer*> tokenizer() const;
  const EngineOptions& options() const { return options_; }
  const Footprint& footprint() const { return footprint_; }
  Ledger& ledger() { return *ledger_; }
  Context& context() { return *context_; }
  WeightCatalog& catalog() { return *catalog_; }
  double load_seconds() const { return load_seconds_; }

  Result<std::unique_ptr<SequenceState>> new_sequence() { return pool_->new_sequence(); }

  // Runs a step whose spans point to sequences of this engine: takes pages, computes, moves the
  // sequences on. The logits [output_rows, vocab_size] live until the next step.
  Result<const Act*> step(const Step& step);

  // Feeds `tokens` after what the sequence holds, in steps of options().batch, and returns the
  // logits after the last one.
  Result<std::span<const float>> feed(SequenceState& sequence, std::span<const TokenId> tokens);

  // The costs of one step: `rows` rows of one sequence, the last at position `position`.
  std::vector<OpCost> costs(int64_t rows, int64_t position, int64_t outputs) const;

 private:
  Engine() = default;
  static Footprint measure(const Model& model, const WeightCatalog& catalog, const EngineOptions& options);

  EngineOptions options_;
  Footprint footprint_;
  std::shared_ptr<Ledger> ledger_;
  std::shared_ptr<ThreadPool> threads_;
  std::unique_ptr<ModelFile> file_;
  std::unique_ptr<WeightCatalog> catalog_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::optional<Error> tokenizer_error_;
  std::shared_ptr<StatePool> pool_;
  std::unique_ptr<Context> context_;
  Act output_;
  bool has_recurrent_ = false;
  double load_seconds_ = 0;
};

}  // namespace venturi
