// The façade: a model opened inside a budget.
//
// open() reads headers, runs the architecture in shape mode, adds up what weights, sequence state
// and activations will take, and decides (fit.h) what is pinned: all weights where they fit, else as many
// as do, the others to be streamed from the disk in every step. What does not fit even so is refused before
// loading, with the largest setting that would. Then it loads. Threads: one caller at a time.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/ledger.h"
#include "base/thread_pool.h"
#include "cache/kept_states.h"
#include "cache/prefix_cache.h"
#include "engine/adapters.h"
#include "memory/experts/expert_cache.h"
#include "memory/neurons/neuron_store.h"
#include "memory/stream.h"
#include "models/architecture.h"
#include "tokenizers/tokenizer.h"

namespace venturi {

struct EngineOptions {
  uint64_t memory = Ledger::kUnlimited;  // bytes for weights, state, activations and buffers together
  int64_t context = 0;     // tokens per sequence; 0: what the model was trained for, at most 4096,
                           // and less where only less fits the budget
  int64_t batch = 0;       // rows of a step at most; 0: what suits the budget, at most 512
  int64_t outputs = 1;     // rows of a step whose logits are wanted at most
  int sequences = 1;
  int threads = 0;         // 0: what affinity and quota allow
  bool repack = true;
  uint64_t state_memory = 0;  // of sequence state in memory at most; 0: what `memory` leaves
  // Where state goes that has no place in memory (ScratchFile: a folder, a new file, empty: the usual
  // place). Without it, what does not fit is refused.
  std::optional<std::string> spill = {};
  // Sequences share pages, fewer than all could fill where memory is short, and what they computed is kept
  // for others that begin alike; `spill` is then where that goes for which there are no pages.
  bool shared_state = false, prefix_cache = true;
  std::optional<ResidencyPlan> residency = {};  // instead of what the engine would choose
  ResidencyWishes wishes = {};                  // bounds on what it chooses
  bool sparse = true;        // where a sidecar was prepared and the model does not fit, read neurons from it
  std::string sidecar = {};  // its path; empty: beside the model, if there
  std::optional<NeuronPlan> neurons = {};  // from the sidecar by this plan, fit or not
  // That steps may name (Span::adapter), in memory beside the weights. With any, neurons are not read by
  // themselves.
  std::vector<AdapterSource> adapters = {};
  // Of an engine opened before it, whose ledger and threads it shares; `memory` is of both then.
  std::shared_ptr<Ledger> ledger = {};
  std::shared_ptr<ThreadPool> pool = {};
  DiskOptions disk = {};                        // how to read; request size and depth are the plan's
  std::function<void(uint64_t done, uint64_t total)> progress = {};  // of loading
};

// What a setting takes, known from shape mode.
struct Footprint {
  uint64_t weights = 0;  // pinned
  uint64_t windows = 0;  // for what is streamed
  uint64_t neurons = 0;  // for what is read by neuron
  uint64_t adapters = 0;
  uint64_t staging = 0, state = 0, activations = 0;
  uint64_t state_file = 0;  // on disk at most; not part of the peak
  // Staging is given back before state, activations and windows are drawn.
  uint64_t working() const { return adapters + std::max(staging, state + activations); }
  uint64_t peak() const { return weights + adapters + std::max(staging, state + activations + windows + neurons); }
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
  // For another engine to share.
  const std::shared_ptr<Ledger>& shared_ledger() const { return ledger_; }
  const std::shared_ptr<ThreadPool>& shared_pool() const { return threads_; }
  Context& context() { return *context_; }
  WeightCatalog& catalog() { return *catalog_; }
  const ResidencyPlan& residency() const { return residency_; }
  const std::vector<WeightUse>& uses() const { return uses_; }
  // Read from disk since opening, after loading; the time that steps waited for it.
  ResidencyCounters disk_counters() const;
  ExpertCache* experts() const { return experts_.get(); }  // null where there is no cache of them
  // What was read by neuron; null where nothing is.
  const NeuronStore* neurons() const { return neurons_.get(); }
  const AdapterSet& adapters() const { return adapters_; }
  // Of an engine that was opened with at most one; null: none.
  const Adapter* only_adapter() const { return adapters_.empty() ? nullptr : adapters_.all()[0].get(); }
  const NeuronPlan& neuron_plan() const { return neuron_plan_; }
  // Of state that went to the disk and came back.
  StateCounters state_counters() const { return pool_->counters(); }
  const StatePool& state_pool() const { return *pool_; }
  // Memory of the state is asked for before steps come to it: for a server, whose streams should not wait for it.
  void touch_state_ahead() { pool_->touch_ahead(); }
  ThreadPool& threads() { return *threads_; }  // between steps, for whoever calls step()
  PrefixCache* prefix_cache() { return prefix_cache_.get(); }  // null: no prefix is kept
  KeptStates* kept_states() { return kept_states_.get(); }     // null: nor whole states, of models that share no pages
  double load_seconds() const { return load_seconds_; }

  // In the place of the oldest kept state where there is no other.
  Result<std::unique_ptr<SequenceState>> new_sequence();

  // Runs a step whose spans point to sequences of this engine: takes pages, computes, moves the
  // sequences on. The logits [output_rows, vocab_size] live until the next step. Code::kIo when the disk
  // failed it, Code::kOutOfBudget for a step larger than options() that the ledger has no room for: the
  // sequences are where they were (one with a recurrent state is empty, as that cannot go back), and the
  // next step may go well.
  Result<const Act*> step(const Step& step);
  // Whether a step that failed has left its sequences as they were.
  bool repeats() const { return !has_recurrent_; }

  // Feeds `tokens` after what the sequence holds, in steps of options().batch, and returns the
  // logits after the last one.
  Result<std::span<const float>> feed(SequenceState& sequence, std::span<const TokenId> tokens, const Adapter* adapter = nullptr);

  // The costs of one step: `rows` rows of one sequence, the last at position `position`.
  std::vector<OpCost> costs(int64_t rows, int64_t position, int64_t outputs, const Adapter* adapter = nullptr) const;

 private:
  Engine() = default;
  Status load();
  EngineOptions options_;
  Footprint footprint_;
  ResidencyPlan residency_;
  NeuronPlan neuron_plan_;
  std::vector<WeightUse> uses_;
  std::shared_ptr<Ledger> ledger_;
  std::shared_ptr<ThreadPool> threads_;
  std::unique_ptr<ModelFile> file_;
  std::unique_ptr<WeightCatalog> catalog_;
  AdapterSet adapters_;  // of its weights
  std::unique_ptr<ExpertCache> experts_;
  std::unique_ptr<StreamResidency> stream_;  // null: all rows are in memory
  std::unique_ptr<Sidecar> sidecar_;
  std::unique_ptr<NeuronStore> neurons_;     // null: none is read by itself
  std::unique_ptr<Model> model_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::optional<Error> tokenizer_error_;
  std::shared_ptr<StatePool> pool_;
  std::unique_ptr<PrefixCache> prefix_cache_;
  std::unique_ptr<KeptStates> kept_states_;
  std::unique_ptr<Context> context_;
  Act output_;
  bool has_recurrent_ = false;
  double load_seconds_ = 0;
};

}  // namespace venturi
