#include "engine/engine.h"

#include <algorithm>

#include "base/clock.h"
#include "engine/fit.h"
#include "engine/sparse.h"
#include "ops/adapters.h"

namespace venturi {

namespace {

Step shape_step(int64_t rows, int64_t position, int64_t outputs) {
  Step step;
  step.tokens.assign(rows, 0);
  step.spans = {{.row_begin = 0, .n_rows = rows, .position = position, .state = nullptr}};
  for (int64_t r = rows - outputs; r < rows; ++r) step.output_rows.push_back(r);
  return step;
}

}  // namespace

Result<std::unique_ptr<Engine>> Engine::open(const std::string& path, const EngineOptions& options) {
  std::unique_ptr<Engine> engine(new Engine);
  engine->file_ = TRY(open_model(path));
  if (engine->file_->tensors.empty())
    return error(Code::kUnsupported, "{} has no tensors; it is a vocabulary only and cannot be run", path);
  engine->catalog_ = std::make_unique<WeightCatalog>(*engine->file_);
  engine->model_ = TRY(create_model(*engine->file_, *engine->catalog_));
  const ModelInfo& info = engine->model_->info();
  EngineOptions wanted = options;
  engine->adapters_ = TRY(declare_adapters(options.adapters, *engine->file_, *engine->catalog_));
  // A feed-forward of chosen neurons is no product of a matrix, to which an adapter could be added.
  wanted.sparse = options.sparse && engine->adapters_.empty();
  if (options.neurons && !engine->adapters_.empty())
    return error(Code::kUnsupported, "{}: neurons are to be read by themselves, which adapters do not go with", path);
  if (options.memory != Ledger::kUnlimited || options.neurons)
    engine->sidecar_ = TRY(find_sidecar(*engine->file_, *engine->model_, wanted));
  if (options.ledger) wanted.memory = std::min(options.memory, options.ledger->available());
  if (options.pool) wanted.threads = options.pool->size();
  auto fitted = fit_setting(*engine->model_, *engine->catalog_, wanted, engine->sidecar_.get(), &engine->adapters_);
  if (!fitted)
    return with_advice(std::move(fitted).error(), *engine->model_, *engine->catalog_, wanted, engine->sidecar_.get(), &engine->adapters_);
  Setting setting = std::move(*fitted);
  const EngineOptions& o = engine->options_ = setting.options;
  engine->footprint_ = setting.footprint;
  engine->residency_ = std::move(setting.residency);
  engine->neuron_plan_ = setting.neurons;
  engine->uses_ = std::move(setting.uses);
  TRY(check_adapters_used(engine->adapters_, engine->uses_));
  engine->model_->set_context(o.context);
  for (const SlotSpec& slot : info.slots) engine->has_recurrent_ |= slot.kind == SlotSpec::Kind::kRecurrent;
  engine->ledger_ = o.ledger ? o.ledger : Ledger::create(o.memory);
  engine->threads_ = o.pool ? o.pool : std::make_shared<ThreadPool>(o.threads);
  TRY(engine->load());
  engine->pool_ = TRY(StatePool::create(*engine->ledger_, info.slots, setting.state, o.spill.value_or(""), o.disk));
  if (o.shared_state && o.prefix_cache && engine->pool_->shares_prefixes())
    engine->prefix_cache_ = TRY(PrefixCache::create(engine->pool_, {.place = o.spill, .disk = o.disk}));
  else if (o.shared_state && o.prefix_cache && !info.embeds)
    engine->kept_states_ = std::make_unique<KeptStates>();
  engine->context_ = TRY(Context::run(engine->ledger_, engine->threads_, engine->footprint_.activations));
  if (!engine->adapters_.empty()) engine->context_->set_adapters(&engine->adapters_);
  // Tiles would ask for a streamed weight once each.
  if (engine->residency_.streams() || engine->neurons_) engine->context_->set_row_tile(0);

  auto tokenizer = Tokenizer::from_metadata(engine->file_->metadata);
  if (tokenizer) {
    engine->tokenizer_ = std::move(tokenizer).value();
  } else {
    engine->tokenizer_error_ = std::move(tokenizer).error().within(engine->file_->path);
  }
  return engine;
}

Status Engine::load() {
  const double begin = now_seconds();
  LoadOptions load{.repack = options_.repack, .disk = nullptr, .progress = options_.progress};
  // What is larger than memory does not go through the page cache, which is memory too.
  std::unique_ptr<DiskReader> disk;
  if (residency_.streams() || neuron_plan_.used()) {
    disk = TRY(DiskReader::create(options_.disk));
    for (const File& file : file_->files) TRY(disk->add(file));
    load.disk = disk.get();
  }
  TRY(catalog_->load(*ledger_, *threads_, load));
  for (const auto& adapter : adapters_.all()) TRY(adapter->load(*ledger_));
  load_seconds_ = now_seconds() - begin;
  if (residency_.expert_cache_bytes > 0)
    experts_ = TRY(ExpertCache::create(*ledger_, *threads_, *catalog_, residency_, options_.disk, options_.repack));
  const auto streams = [](const auto& weight) { return !weight->pinned() && !weight->residency && !weight->bundles; };
  if (std::any_of(catalog_->matrices().begin(), catalog_->matrices().end(), streams))
    stream_ = TRY(StreamResidency::create(*ledger_, *catalog_, uses_, residency_, options_.disk));
  if (neuron_plan_.used()) neurons_ = TRY(NeuronStore::create(*ledger_, *sidecar_, neuron_plan_, options_.disk));
  return {};
}

Result<const Tokenizer*> Engine::tokenizer() const {
  if (!tokenizer_) return *tokenizer_error_;
  return static_cast<const Tokenizer*>(tokenizer_.get());
}

Result<std::unique_ptr<SequenceState>> Engine::new_sequence() {
  for (;;) {
    auto made = pool_->new_sequence();
    if (made || !kept_states_ || !kept_states_->drop_oldest()) return made;
  }
}

Result<const Act*> Engine::step(const Step& step) {
  for (const TokenId id : step.tokens)
    if (id < 0 || id >= info().vocab_size)
      return error(Code::kInvalidArgument, "token id {} is outside the vocabulary of {}", id, info().vocab_size);
  for (const Span& span : step.spans) {
    if (info().whole_spans && span.position != 0)
      return error(Code::kInvalidArgument, "this model takes a sequence in one span; one at position {} was given",
                   span.position);
    if (has_recurrent_ && span.position != span.state->length())
      return error(Code::kInvalidArgument, "a span at position {} does not continue its sequence of {} tokens",
                   span.position, span.state->length());
    TRY(span.state->prepare(span.position, span.n_rows));
    if (span.mask == Mask::kFull && !span.state->whole())
      return error(Code::kUnsupported, "a span of full mask sees tokens that the sequence has given back");
  }
  std::vector<SequenceState*> sequences;
  for (const Span& span : step.spans) sequences.push_back(span.state);
  pool_->expect(sequences);
  output_.reset();
  set_row_adapters(*context_, step);
  output_ = model_->forward(*context_, step);
  if (Status status = context_->take_error(); !status) {
    output_.reset();
    // A recurrent state may be half a step further; nothing can take it back.
    if (has_recurrent_)
      for (const Span& span : step.spans) span.state->truncate(0);
    Error failure = std::move(status).error();
    if (failure.code != Code::kOutOfBudget) return failure;
    return std::move(failure).within(fmt::format("a step of {} rows with {} outputs, in an engine opened for {} and {}",
                                                 step.n_rows(), step.output_rows.size(), options_.batch, options_.outputs));
  }
  for (const Span& span : step.spans) span.state->set_length(span.position + span.n_rows);
  return static_cast<const Act*>(&output_);
}

Result<std::span<const float>> Engine::feed(SequenceState& sequence, std::span<const TokenId> tokens, const Adapter* adapter) {
  if (tokens.empty()) return error(Code::kInvalidArgument, "there are no tokens to feed");
  if (info().whole_spans && static_cast<int64_t>(tokens.size()) > options_.batch)
    return error(Code::kInvalidArgument, "{} tokens do not fit the context of {}; this model cannot be fed in parts",
                 tokens.size(), options_.context);
  const Act* logits = nullptr;
  while (!tokens.empty()) {
    const int64_t n = std::min<int64_t>(options_.batch, static_cast<int64_t>(tokens.size()));
    Step s;
    s.tokens.assign(tokens.begin(), tokens.begin() + n);
    s.spans = {{.row_begin = 0, .n_rows = n, .position = sequence.length(), .state = &sequence, .adapter = adapter}};
    tokens = tokens.subspan(n);
    if (tokens.empty()) s.output_rows = {n - 1};
    logits = TRY(step(s));
  }
  return std::span<const float>(logits->data(), static_cast<size_t>(logits->cols()));
}

ResidencyCounters Engine::disk_counters() const {
  ResidencyCounters c = stream_ ? stream_->counters() : ResidencyCounters{};
  if (experts_) c += experts_->counters();
  if (!neurons_) return c;
  const NeuronCounters n = neurons_->counters();
  c.disk_bytes += n.disk_bytes;
  c.stalls += n.stalls;
  c.stall_seconds += n.stall_seconds;
  return c;
}

std::vector<OpCost> Engine::costs(int64_t rows, int64_t position, int64_t outputs, const Adapter* adapter) const {
  const auto context = Context::shape(options_.threads);
  if (residency_.streams() || neurons_) context->set_row_tile(0);
  Step step = shape_step(rows, position - rows + 1, outputs);
  step.spills = footprint_.state_file > 0;
  step.spans[0].adapter = adapter;
  if (!adapters_.empty()) context->set_adapters(&adapters_);
  set_row_adapters(*context, step);
  (void)model_->forward(*context, step);
  return context->costs();
}

}  // namespace venturi
