#include "engine/engine.h"

#include <algorithm>

#include "base/checked.h"
#include "base/clock.h"
#include "engine/activations.h"

namespace venturi {

namespace {

Step shape_step(int64_t rows, int64_t position, int64_t outputs) {
  Step step;
  step.tokens.assign(rows, 0);
  step.spans = {{.row_begin = 0, .n_rows = rows, .position = position, .state = nullptr}};
  for (int64_t r = rows - outputs; r < rows; ++r) step.output_rows.push_back(r);
  return step;
}

StepShapes step_shapes(const EngineOptions& o) {
  return {.context = o.context, .batch = o.batch, .outputs = o.outputs, .sequences = o.sequences, .threads = o.threads};
}

}  // namespace

Footprint Engine::measure(const Model& model, const WeightCatalog& catalog, const EngineOptions& options) {
  Footprint f;
  f.weights = catalog.bytes(options.repack);
  f.staging = catalog.staging_bytes() * options.threads;
  f.state = state_bytes(model.info().slots, options.context, options.sequences);
  f.activations = Buffer::held_bytes(plan_activations(model, step_shapes(options)).arena.peak);
  return f;
}

Result<std::unique_ptr<Engine>> Engine::open(const std::string& path, const EngineOptions& options) {
  std::unique_ptr<Engine> engine(new Engine);
  engine->file_ = TRY(open_model(path));
  if (engine->file_->tensors.empty())
    return error(Code::kUnsupported, "{} has no tensors; it is a vocabulary only and cannot be run", path);
  engine->catalog_ = std::make_unique<WeightCatalog>(*engine->file_);
  engine->model_ = TRY(create_model(*engine->file_, *engine->catalog_));
  const ModelInfo& info = engine->model_->info();

  EngineOptions& o = engine->options_;
  o = options;
  if (o.threads <= 0) o.threads = default_thread_count();
  const bool free_context = o.context <= 0;
  if (free_context) o.context = std::min<int64_t>(info.trained_context, 4096);
  if (info.max_context > 0 && o.context > info.max_context)
    return error(Code::kInvalidArgument, "a context of {} was asked for; {} has positions for {} (-c {})", o.context,
                 path, info.max_context, info.max_context);
  // What cannot be fed in parts must fit one step.
  if (info.whole_spans) o.batch = std::max(o.batch, o.context);
  Footprint f = measure(*engine->model_, *engine->catalog_, o);
  if (f.peak() > o.memory) {
    // The largest context that fits, in pages.
    int64_t low = 0, high = ceil_div(o.context, kPageTokens);
    while (low < high) {
      const int64_t middle = (low + high + 1) / 2;
      EngineOptions trial = o;
      trial.context = middle * kPageTokens;
      if (measure(*engine->model_, *engine->catalog_, trial).peak() <= o.memory) {
        low = middle;
      } else {
        high = middle - 1;
      }
    }
    EngineOptions smallest = o;
    smallest.context = kPageTokens;
    if (low == 0) {
      const uint64_t need = measure(*engine->model_, *engine->catalog_, smallest).peak();
      return error(Code::kOutOfBudget,
                   "{} does not fit a memory budget of {}: its weights take {}, and with a context of {} it needs {}. "
                   "Give --memory {}M or more, or convert it to a smaller type",
                   path, format_bytes(o.memory), format_bytes(f.weights), kPageTokens, format_bytes(need),
                   ceil_div(static_cast<int64_t>(need), 1000000));
    }
    if (!free_context)
      return error(Code::kOutOfBudget,
                   "a context of {} needs {} (weights {}, state {}, activations {}), the memory budget is {}; "
                   "the largest context that fits is {} (-c {})",
                   o.context, format_bytes(f.peak()), format_bytes(f.weights), format_bytes(f.state),
                   format_bytes(f.activations), format_bytes(o.memory), low * kPageTokens, low * kPageTokens);
    o.context = low * kPageTokens;
    f = measure(*engine->model_, *engine->catalog_, o);
  }
  engine->footprint_ = f;
  for (const SlotSpec& slot : info.slots) engine->has_recurrent_ |= slot.kind == SlotSpec::Kind::kRecurrent;
  engine->ledger_ = Ledger::create(o.memory);
  engine->threads_ = std::make_shared<ThreadPool>(o.threads);

  const double begin = now_seconds();
  LoadOptions load{.repack = o.repack, .progress = o.progress};
  if (auto status = engine->catalog_->load(*engine->ledger_, *engine->threads_, load); !status)
    return std::move(status).error();
  engine->load_seconds_ = now_seconds() - begin;
  engine->pool_ = TRY(StatePool::create(*engine->ledger_, info.slots, o.context, o.sequences));
  engine->context_ = TRY(Context::run(engine->ledger_, engine->threads_, f.activations));
  engine->context_->set_plan(plan_activations(*engine->model_, step_shapes(o)).arena);

  auto tokenizer = Tokenizer::from_metadata(engine->file_->metadata);
  if (tokenizer) {
    engine->tokenizer_ = std::move(tokenizer).value();
  } else {
    engine->tokenizer_error_ = std::move(tokenizer).error();
  }
  return engine;
}

Result<const Tokenizer*> Engine::tokenizer() const {
  if (!tokenizer_) return *tokenizer_error_;
  return static_cast<const Tokenizer*>(tokenizer_.get());
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
    if (auto status = span.state->reserve(span.position + span.n_rows); !status) return std::move(status).error();
  }
  output_.reset();
  context_->begin_step();
  output_ = model_->forward(*context_, step);
  for (const Span& span : step.spans) span.state->set_length(span.position + span.n_rows);
  return static_cast<const Act*>(&output_);
}

Result<std::span<const float>> Engine::feed(SequenceState& sequence, std::span<const TokenId> tokens) {
  if (tokens.empty()) return error(Code::kInvalidArgument, "there are no tokens to feed");
  if (info().whole_spans && static_cast<int64_t>(tokens.size()) > options_.batch)
    return error(Code::kInvalidArgument, "{} tokens do not fit the context of {}; this model cannot be fed in parts",
                 tokens.size(), options_.context);
  const Act* logits = nullptr;
  while (!tokens.empty()) {
    const int64_t n = std::min<int64_t>(options_.batch, static_cast<int64_t>(tokens.size()));
    Step s;
    s.tokens.assign(tokens.begin(), tokens.begin() + n);
    s.spans = {{.row_begin = 0, .n_rows = n, .position = sequence.length(), .state = &sequence}};
    tokens = tokens.subspan(n);
    if (tokens.empty()) s.output_rows = {n - 1};
    logits = TRY(step(s));
  }
  return std::span<const float>(logits->data(), static_cast<size_t>(logits->cols()));
}

std::vector<OpCost> Engine::costs(int64_t rows, int64_t position, int64_t outputs) const {
  const auto context = Context::shape(options_.threads);
  (void)model_->forward(*context, shape_step(rows, position - rows + 1, outputs));
  return context->costs();
}

}  // namespace venturi
