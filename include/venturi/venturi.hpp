// Venturi as a library, in C++20: values and errors over venturi.h, in this header alone, so that
// no C++ ABI is shared with the library. What is said there of ownership, threads and stability
// holds here.
//
//   auto model = venturi::Model::open("model.gguf", {.memory_bytes = 2'000'000'000});
//   if (!model) return complain(model.error().message);
//   auto tokens = model->tokenize("Once upon a time");
//   auto sequence = model->new_sequence();
//   auto report = sequence->generate(*tokens, {.max_tokens = 64}, [](venturi::Token,
//   std::string_view text) {
//     std::cout << text << std::flush;
//     return true;
//   });
//
// Model and Sequence own what they stand for and can be moved; a Sequence keeps its Model's weights
// alive.
#pragma once

#include <venturi/venturi.h>

#include <cstdint>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace venturi {

using Token = int32_t;

struct Failure {
  venturi_code code = VENTURI_OK;
  std::string message;  // a line or two, for a person
};

// A value, or why there is none.
template <typename T>
class Outcome {
 public:
  Outcome(T value)
      : state_(std::in_place_index<0>, std::move(value)) {}  // NOLINT: implicit by design
  Outcome(Failure error) : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT

  bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }
  // Asked for what is not there: std::bad_variant_access.
  T& operator*() & { return std::get<0>(state_); }
  const T& operator*() const& { return std::get<0>(state_); }
  T operator*() && { return std::get<0>(std::move(state_)); }
  T* operator->() { return &std::get<0>(state_); }
  const T* operator->() const { return &std::get<0>(state_); }
  const Failure& error() const { return std::get<1>(state_); }

 private:
  std::variant<T, Failure> state_;
};

// A LoRA adapter beside the model's weights: a peft directory or a GGUF file.
struct Adapter {
  std::string name, path;
  float scale = 1;  // over the file's own
};

struct OpenOptions {
  uint64_t memory_bytes = 0;  // 0: no limit
  int64_t context = 0;        // 0: what the model was trained for, at most 4096
  int64_t batch = 0;
  int64_t outputs = 1;  // tokens whose logits one eval may ask for
  int sequences = 1;
  int threads = 0;
  std::vector<Adapter> adapters = {};  // that sequences may take
};

struct GenerateOptions {
  int64_t max_tokens = 128;
  bool ignore_end = false;
  float temperature = 0.8f;  // 0: the likeliest token
  int32_t top_k = 40;
  float top_p = 0.95f, min_p = 0.05f, typical_p = 1;
  float repetition_penalty = 1, presence_penalty = 0, frequency_penalty = 0;
  int32_t penalty_last_n = 64;
  int32_t mirostat = 0;
  float mirostat_tau = 5, mirostat_eta = 0.1f;
  uint64_t seed = 0;
  std::map<Token, float> logit_bias = {};
};

// Told of each token as it is drawn, with the text that it completes; false stops.
using OnToken = std::function<bool(Token, std::string_view)>;

class Sequence {
 public:
  int64_t length() const { return venturi_sequence_length(handle_.get()); }
  std::optional<Failure> truncate(int64_t length) {
    venturi_error error;
    if (venturi_sequence_truncate(handle_.get(), length, &error) == VENTURI_OK) return std::nullopt;
    return Failure{error.code, error.message};
  }

  // Of the model's, by name; before the first token. "": none.
  std::optional<Failure> use_adapter(const std::string& name) {
    venturi_error error;
    if (venturi_sequence_use_adapter(handle_.get(), name.empty() ? nullptr : name.c_str(),
                                     &error) == VENTURI_OK)
      return std::nullopt;
    return Failure{error.code, error.message};
  }

  // The logits after each of the last `n_outputs` tokens, [n_outputs, output_width]: there until
  // the next eval or generate on the model.
  Outcome<std::span<const float>> eval(std::span<const Token> tokens, size_t n_outputs = 1) {
    venturi_error error;
    const float* logits = nullptr;
    if (venturi_eval(handle_.get(), tokens.data(), tokens.size(), n_outputs, &logits, &error) !=
        VENTURI_OK)
      return Failure{error.code, error.message};
    return std::span<const float>(logits, logits ? n_outputs * output_width_ : 0);
  }

  // An exception of `on_token` stops the generation and comes out of here.
  Outcome<venturi_generated> generate(std::span<const Token> tokens,
                                      const GenerateOptions& options = {},
                                      const OnToken& on_token = {}) {
    std::vector<venturi_logit_bias> bias;
    for (const auto& [token, value] : options.logit_bias) bias.push_back({token, value});
    const venturi_generate_options o = c_options(options, bias);
    Caller caller{on_token, nullptr};
    venturi_generated generated = {};
    venturi_error error;
    const venturi_code code =
        venturi_generate(handle_.get(), tokens.data(), tokens.size(), &o, on_token ? call : nullptr,
                         &caller, &generated, &error);
    if (caller.thrown) std::rethrow_exception(caller.thrown);
    if (code != VENTURI_OK) return Failure{error.code, error.message};
    return generated;
  }

 private:
  friend class Model;
  struct Free {
    void operator()(venturi_sequence* handle) const { venturi_sequence_free(handle); }
  };
  struct Caller {
    const OnToken& on_token;
    std::exception_ptr thrown;
  };

  Sequence(venturi_sequence* handle, size_t output_width)
      : handle_(handle), output_width_(output_width) {}

  static int32_t call(void* user, int32_t token, const char* text, size_t text_bytes) {
    auto& caller = *static_cast<Caller*>(user);
    try {
      return caller.on_token(token, {text, text_bytes});
    } catch (...) {  // it may not pass through C
      caller.thrown = std::current_exception();
      return 0;
    }
  }

  static venturi_generate_options c_options(const GenerateOptions& from,
                                            const std::vector<venturi_logit_bias>& bias) {
    venturi_generate_options o;
    venturi_generate_options_init(&o);
    o.max_tokens = from.max_tokens;
    o.ignore_end = from.ignore_end;
    o.temperature = from.temperature;
    o.top_k = from.top_k;
    o.top_p = from.top_p;
    o.min_p = from.min_p;
    o.typical_p = from.typical_p;
    o.repetition_penalty = from.repetition_penalty;
    o.presence_penalty = from.presence_penalty;
    o.frequency_penalty = from.frequency_penalty;
    o.penalty_last_n = from.penalty_last_n;
    o.mirostat = from.mirostat;
    o.mirostat_tau = from.mirostat_tau;
    o.mirostat_eta = from.mirostat_eta;
    o.seed = from.seed;
    o.logit_bias = bias.data();
    o.n_logit_bias = bias.size();
    return o;
  }

  std::unique_ptr<venturi_sequence, Free> handle_;
  size_t output_width_ = 0;
};

class Model {
 public:
  static Outcome<Model> open(const std::string& path, const OpenOptions& options = {}) {
    venturi_open_options o;
    venturi_open_options_init(&o);
    o.memory_bytes = options.memory_bytes;
    o.context = options.context;
    o.batch = options.batch;
    o.outputs = options.outputs;
    o.sequences = options.sequences;
    o.threads = options.threads;
    std::vector<venturi_adapter> adapters;
    for (const Adapter& a : options.adapters)
      adapters.push_back({a.name.c_str(), a.path.c_str(), a.scale});
    o.adapters = adapters.data();
    o.n_adapters = adapters.size();
    venturi_error error;
    venturi_model* handle = nullptr;
    if (venturi_open(path.c_str(), &o, &handle, &error) != VENTURI_OK)
      return Failure{error.code, error.message};
    return Model(handle);
  }

  venturi_info info() const {
    venturi_info info = {};
    info.size = sizeof info;
    venturi_get_info(handle_.get(), &info);
    return info;
  }

  Outcome<std::vector<Token>> tokenize(std::string_view text,
                                       int32_t flags = VENTURI_ADD_SPECIAL) const {
    return twice<std::vector<Token>>([&](std::vector<Token>& out, size_t* n, venturi_error* error) {
      return venturi_tokenize(handle_.get(), text.data(), text.size(), flags, out.data(),
                              out.size(), n, error);
    });
  }
  Outcome<std::string> detokenize(std::span<const Token> tokens, int32_t flags = 0) const {
    return twice<std::string>([&](std::string& out, size_t* n, venturi_error* error) {
      return venturi_detokenize(handle_.get(), tokens.data(), tokens.size(), flags, out.data(),
                                out.size(), n, error);
    });
  }
  bool is_end(Token token) const { return venturi_is_end(handle_.get(), token) != 0; }

  Outcome<Sequence> new_sequence() {
    venturi_error error;
    venturi_sequence* handle = nullptr;
    if (venturi_sequence_new(handle_.get(), &handle, &error) != VENTURI_OK)
      return Failure{error.code, error.message};
    return Sequence(handle, static_cast<size_t>(info().output_width));
  }

 private:
  struct Close {
    void operator()(venturi_model* handle) const { venturi_close(handle); }
  };
  explicit Model(venturi_model* handle) : handle_(handle) {}

  // Once for the size, once for the values.
  template <typename Values, typename Call>
  static Outcome<Values> twice(const Call& call) {
    Values out;
    venturi_error error;
    for (int pass = 0; pass < 2; ++pass) {
      size_t n = 0;
      if (call(out, &n, &error) != VENTURI_OK) return Failure{error.code, error.message};
      out.resize(n);
    }
    return out;
  }

  std::unique_ptr<venturi_model, Close> handle_;
};

}  // namespace venturi
