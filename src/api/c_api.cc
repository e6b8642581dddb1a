// include/venturi/venturi.h over the engine.
#include <venturi/venturi.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <new>

#include "engine/generate.h"
#include "tokenizers/detokenizer.h"

// A sequence shares its engine, so that the two may be given back in any order.
struct venturi_model {
  std::shared_ptr<venturi::Engine> engine;
};

struct venturi_sequence {
  // Before `state`, to go after it.
  std::shared_ptr<venturi::Engine> engine;
  std::unique_ptr<venturi::SequenceState> state;
  std::vector<venturi::TokenId> tokens;  // held: penalties look back at them
  const venturi::Adapter* adapter = nullptr;  // of the engine's
};

namespace venturi {

namespace {

static_assert(VENTURI_INVALID_ARGUMENT == static_cast<int>(Code::kInvalidArgument) + 1 &&
              VENTURI_CANCELLED == static_cast<int>(Code::kCancelled) + 1);

venturi_code report(const Error& error, venturi_error* out) {
  const auto code = static_cast<venturi_code>(static_cast<int>(error.code) + 1);
  if (out) {
    out->code = code;
    const size_t n = std::min(error.message.size(), sizeof out->message - 1);
    std::memcpy(out->message, error.message.data(), n);
    out->message[n] = 0;
  }
  return code;
}

// No exception passes a C function: what is left of them is want of memory that no budget counts.
template <typename Work>
venturi_code guarded(venturi_error* out, const Work& work) {
  try {
    const Status status = work();
    if (!status) return report(status.error(), out);
  } catch (const std::bad_alloc&) {
    return report(error(Code::kOutOfBudget, "the system gives no more memory"), out);
  } catch (const std::exception& e) {
    return report(error(Code::kUnsupported, "unexpected: {}", e.what()), out);
  }
  if (out) *out = {VENTURI_OK, ""};
  return VENTURI_OK;
}

Error missing(const char* what) { return error(Code::kInvalidArgument, "{} is NULL", what); }

// A caller compiled with an older header has a smaller struct: what it lacks keeps its default.
template <typename Struct>
Struct with_defaults(const Struct* given, void (*init)(Struct*)) {
  Struct out;
  init(&out);
  if (given) std::memcpy(&out, given, std::min(given->size, sizeof out));
  return out;
}

EngineOptions engine_options(const venturi_open_options& o) {
  EngineOptions out;
  if (o.memory_bytes != 0) out.memory = o.memory_bytes;
  out.context = o.context;
  out.batch = o.batch;
  out.outputs = o.outputs;
  out.sequences = o.sequences;
  out.threads = o.threads > 0 ? o.threads : default_thread_count();
  for (size_t i = 0; i < o.n_adapters; ++i) {
    const venturi_adapter& a = o.adapters[i];
    out.adapters.push_back({.name = a.name ? a.name : a.path, .path = a.path, .scale = a.scale});
  }
  return out;
}

Status check(const venturi_open_options& o) {
  const auto in_range = [](const char* name, int64_t value, int64_t low, int64_t high) -> Status {
    if (value >= low && value <= high) return {};
    return error(Code::kInvalidArgument, "{} is {}; {} to {} can be", name, value, low, high);
  };
  TRY(in_range("context", o.context, 0, int64_t{1} << 30));
  TRY(in_range("batch", o.batch, 0, 65536));
  TRY(in_range("outputs", o.outputs, 1, 65536));
  TRY(in_range("sequences", o.sequences, 1, 65536));
  TRY(in_range("n_adapters", static_cast<int64_t>(std::min<size_t>(o.n_adapters, 1u << 30)), 0,
               65536));
  if (o.n_adapters > 0 && !o.adapters) return missing("adapters");
  for (size_t i = 0; i < o.n_adapters; ++i)
    if (!o.adapters[i].path) return missing("the path of an adapter");
  return in_range("threads", o.threads, 0, 1024);
}

SamplingParams sampling_params(const venturi_generate_options& o) {
  SamplingParams p{.temperature = o.temperature,
                   .top_k = o.top_k,
                   .top_p = o.top_p,
                   .min_p = o.min_p,
                   .typical_p = o.typical_p,
                   .repetition_penalty = o.repetition_penalty,
                   .presence_penalty = o.presence_penalty,
                   .frequency_penalty = o.frequency_penalty,
                   .penalty_last_n = o.penalty_last_n,
                   .mirostat = o.mirostat,
                   .mirostat_tau = o.mirostat_tau,
                   .mirostat_eta = o.mirostat_eta,
                   .logit_bias = {},
                   .seed = o.seed};
  LogitBias biases;
  for (size_t i = 0; i < o.n_logit_bias; ++i) biases[o.logit_bias[i].token] = o.logit_bias[i].bias;
  if (!biases.empty()) p.logit_bias = std::make_shared<const LogitBias>(std::move(biases));
  return p;
}

Status check_room(const venturi_sequence& s, size_t n_tokens) {
  const int64_t context = s.engine->options().context;
  if (static_cast<int64_t>(n_tokens) <= context - s.state->length()) return {};
  return error(Code::kOutOfBudget, "{} tokens after {} do not fit the context of {}", n_tokens,
               s.state->length(), context);
}

// A step whose last `n_outputs` tokens give logits.
Result<const Act*> step_of(venturi_sequence& s, std::span<const TokenId> tokens,
                           int64_t n_outputs) {
  Step step;
  const auto n = static_cast<int64_t>(tokens.size());
  step.tokens.assign(tokens.begin(), tokens.end());
  step.spans = {
      {.row_begin = 0,
       .n_rows = n,
       .position = s.state->length(),
       .state = s.state.get(),
       .adapter = s.adapter}};
  for (int64_t row = n - n_outputs; row < n; ++row) step.output_rows.push_back(row);
  const Act* out = TRY(s.engine->step(step));
  s.tokens.insert(s.tokens.end(), tokens.begin(), tokens.end());
  return out;
}

Result<const float*> eval(venturi_sequence& s, std::span<const TokenId> tokens, int64_t n_outputs) {
  const EngineOptions& o = s.engine->options();
  const auto n = static_cast<int64_t>(tokens.size());
  if (n == 0) return error(Code::kInvalidArgument, "there are no tokens");
  const int64_t most = std::min({n, o.outputs, o.batch});
  if (n_outputs > most || n_outputs < 0)
    return error(Code::kInvalidArgument,
                 "logits of {} tokens are wanted; at most {} can be, of {} tokens given, {} "
                 "outputs and a batch of {}",
                 n_outputs, most, n, o.outputs, o.batch);
  TRY(check_room(s, tokens.size()));
  if (s.engine->info().whole_spans && n > o.batch)
    return error(Code::kInvalidArgument,
                 "this model takes a sequence in one piece, of at most {} tokens", o.batch);
  // Those whose logits are wanted stay together.
  int64_t left = n;
  while (left - std::max<int64_t>(1, n_outputs) >= o.batch) {
    TRY(step_of(s, tokens.first(static_cast<size_t>(o.batch)), 0));
    tokens = tokens.subspan(static_cast<size_t>(o.batch));
    left -= o.batch;
  }
  if (left > o.batch) {
    const auto ahead = static_cast<size_t>(left - std::max<int64_t>(1, n_outputs));
    TRY(step_of(s, tokens.first(ahead), 0));
    tokens = tokens.subspan(ahead);
  }
  const Act* out = TRY(step_of(s, tokens, n_outputs));
  return out->rows() > 0 ? out->data() : nullptr;
}

Result<GenerationReport> generate_into(venturi_sequence& s, std::span<const TokenId> prompt,
                                       const venturi_generate_options& o, venturi_on_token on_token,
                                       void* user) {
  if (s.engine->info().embeds)
    return error(Code::kUnsupported, "this model gives embeddings and cannot generate");
  if (o.max_tokens < 1)
    return error(Code::kInvalidArgument, "max_tokens is {}; 1 or more", o.max_tokens);
  if (o.n_logit_bias > 0 && !o.logit_bias) return missing("logit_bias");
  if (prompt.empty()) return error(Code::kInvalidArgument, "there are no tokens to begin with");
  TRY(check_room(s, prompt.size()));
  Sampler sampler = TRY(Sampler::create(sampling_params(o)));
  for (const TokenId id : s.tokens) sampler.accept(id);
  Detokenizer detokenizer(*TRY(s.engine->tokenizer()));
  const int64_t room =
      s.engine->options().context - s.state->length() - static_cast<int64_t>(prompt.size());
  std::vector<TokenId> drawn;
  GenerateOptions options;
  options.max_tokens = std::min(o.max_tokens, room + 1);  // the last one drawn takes no place
  options.ignore_end = o.ignore_end != 0;
  options.adapter = s.adapter;
  options.on_token = [&](TokenId id) {
    drawn.push_back(id);
    const std::string text = detokenizer.push(id);
    return !on_token || on_token(user, id, text.data(), text.size()) != 0;
  };
  auto report = generate(*s.engine, *s.state, sampler, prompt, options);
  s.tokens.insert(s.tokens.end(), prompt.begin(), prompt.end());
  s.tokens.insert(s.tokens.end(), drawn.begin(), drawn.end());
  s.tokens.resize(static_cast<size_t>(s.state->length()));
  return report;
}

}  // namespace

}  // namespace venturi

using namespace venturi;  // NOLINT: what follows is C's

const char* venturi_version(void) { return VENTURI_VERSION; }

void venturi_open_options_init(venturi_open_options* options) {
  *options = {};
  options->size = sizeof *options;
  options->outputs = options->sequences = 1;
}

venturi_code venturi_open(const char* path, const venturi_open_options* options,
                          venturi_model** out, venturi_error* error) {
  return guarded(error, [&]() -> Status {
    if (!path || !out) return missing(path ? "out" : "path");
    *out = nullptr;
    const venturi_open_options o = with_defaults(options, venturi_open_options_init);
    TRY(check(o));
    auto engine = TRY(Engine::open(path, engine_options(o)));
    *out = new venturi_model{std::move(engine)};
    return {};
  });
}

void venturi_close(venturi_model* model) { delete model; }

void venturi_get_info(const venturi_model* model, venturi_info* info) {
  Engine& engine = *model->engine;
  const ModelInfo& m = engine.info();
  venturi_info all = {};
  all.size = info->size;
  all.vocab_size = m.vocab_size;
  all.context = engine.options().context;
  all.output_width = m.embeds ? m.d_model : m.vocab_size;
  all.memory_held = engine.ledger().held();
  const auto tokenizer = engine.tokenizer();
  all.bos = tokenizer.ok() ? (*tokenizer)->bos().value_or(-1) : -1;
  all.eos = tokenizer.ok() ? (*tokenizer)->eos().value_or(-1) : -1;
  all.embeds = m.embeds;
  std::memcpy(info, &all, std::min(info->size, sizeof all));
}

venturi_code venturi_tokenize(const venturi_model* model, const char* text, size_t text_bytes,
                              int32_t flags, int32_t* tokens, size_t capacity, size_t* n_tokens,
                              venturi_error* error) {
  return guarded(error, [&]() -> Status {
    if (!model || !n_tokens) return missing(model ? "n_tokens" : "model");
    if ((!text && text_bytes > 0) || (!tokens && capacity > 0))
      return missing(text ? "tokens" : "text");
    const Tokenizer* tokenizer = TRY(model->engine->tokenizer());
    const auto ids = tokenizer->encode({text ? text : "", text_bytes},
                                       {.add_special = (flags & VENTURI_ADD_SPECIAL) != 0,
                                        .parse_special = (flags & VENTURI_PARSE_SPECIAL) != 0});
    std::copy_n(ids.begin(), std::min(capacity, ids.size()), tokens);
    *n_tokens = ids.size();
    return {};
  });
}

venturi_code venturi_detokenize(const venturi_model* model, const int32_t* tokens, size_t n_tokens,
                                int32_t flags, char* text, size_t capacity, size_t* text_bytes,
                                venturi_error* error) {
  return guarded(error, [&]() -> Status {
    if (!model || !text_bytes) return missing(model ? "text_bytes" : "model");
    if ((!tokens && n_tokens > 0) || (!text && capacity > 0))
      return missing(tokens ? "text" : "tokens");
    const Tokenizer* tokenizer = TRY(model->engine->tokenizer());
    const std::string out =
        tokenizer->decode({tokens, n_tokens}, (flags & VENTURI_PARSE_SPECIAL) != 0);
    std::copy_n(out.begin(), std::min(capacity, out.size()), text);
    *text_bytes = out.size();
    return {};
  });
}

int32_t venturi_is_end(const venturi_model* model, int32_t token) {
  const auto tokenizer = model->engine->tokenizer();
  return tokenizer.ok() && (*tokenizer)->is_end_of_generation(token);
}

venturi_code venturi_sequence_new(venturi_model* model, venturi_sequence** out,
                                  venturi_error* error) {
  return guarded(error, [&]() -> Status {
    if (!model || !out) return missing(model ? "out" : "model");
    *out = nullptr;
    auto state = TRY(model->engine->new_sequence());
    *out = new venturi_sequence{.engine = model->engine, .state = std::move(state), .tokens = {}};
    return {};
  });
}

void venturi_sequence_free(venturi_sequence* sequence) { delete sequence; }

venturi_code venturi_sequence_use_adapter(venturi_sequence* sequence, const char* name,
                                          venturi_error* error) {
  return guarded(error, [&]() -> Status {
    if (!sequence) return missing("sequence");
    if (sequence->state->length() > 0)
      return venturi::error(Code::kInvalidArgument,
                            "the sequence has {} tokens; its adapter is chosen before",
                            sequence->state->length());
    const Adapter* adapter = name ? sequence->engine->adapters().find(name) : nullptr;
    if (name && !adapter)
      return venturi::error(Code::kNotFound, "the model was opened without an adapter {}", name);
    sequence->adapter = adapter;
    return {};
  });
}

int64_t venturi_sequence_length(const venturi_sequence* sequence) {
  return sequence->state->length();
}

venturi_code venturi_sequence_truncate(venturi_sequence* sequence, int64_t length,
                                       venturi_error* error) {
  return guarded(error, [&]() -> Status {
    if (!sequence) return missing("sequence");
    if (length < 0 || length > sequence->state->length())
      return venturi::error(Code::kInvalidArgument, "a sequence of {} tokens cannot be cut to {}",
                            sequence->state->length(), length);
    if (!sequence->state->truncate(length))
      return venturi::error(Code::kUnsupported,
                            "a recurrent state cannot go back to {} tokens; 0 can be", length);
    sequence->tokens.resize(static_cast<size_t>(length));
    return {};
  });
}

venturi_code venturi_eval(venturi_sequence* sequence, const int32_t* tokens, size_t n_tokens,
                          size_t n_outputs, const float** logits, venturi_error* error) {
  return guarded(error, [&]() -> Status {
    if (!sequence || (!tokens && n_tokens > 0) || (!logits && n_outputs > 0))
      return missing(!sequence ? "sequence" : tokens ? "logits" : "tokens");
    auto out = eval(*sequence, {tokens, n_tokens},
                    static_cast<int64_t>(std::min<size_t>(n_outputs, 1u << 30)));
    // A recurrent state that failed is empty.
    sequence->tokens.resize(static_cast<size_t>(sequence->state->length()));
    if (!out) return std::move(out).error();
    if (logits) *logits = *out;
    return {};
  });
}

void venturi_generate_options_init(venturi_generate_options* options) {
  const SamplingParams p;
  *options = {};
  options->size = sizeof *options;
  options->max_tokens = 128;
  options->temperature = p.temperature;
  options->top_k = p.top_k;
  options->top_p = p.top_p;
  options->min_p = p.min_p;
  options->typical_p = p.typical_p;
  options->repetition_penalty = p.repetition_penalty;
  options->penalty_last_n = p.penalty_last_n;
  options->mirostat_tau = p.mirostat_tau;
  options->mirostat_eta = p.mirostat_eta;
}

venturi_code venturi_generate(venturi_sequence* sequence, const int32_t* tokens, size_t n_tokens,
                              const venturi_generate_options* options, venturi_on_token on_token,
                              void* user, venturi_generated* generated, venturi_error* error) {
  return guarded(error, [&]() -> Status {
    if (!sequence || (!tokens && n_tokens > 0)) return missing(sequence ? "tokens" : "sequence");
    const venturi_generate_options o = with_defaults(options, venturi_generate_options_init);
    const GenerationReport r = TRY(generate_into(*sequence, {tokens, n_tokens}, o, on_token, user));
    if (generated)
      *generated = {r.prompt_tokens, r.generated_tokens, r.ended, r.prefill_seconds,
                    r.decode_seconds};
    return {};
  });
}
