#include "models/hyper.h"

#include <cmath>

namespace venturi {

namespace {

Error out_of_range(const std::string& key, auto value, auto min, auto max) {
  return error(Code::kCorrupt, "{} is {}, expected {} to {}", key, value, min, max);
}

// A divisor for each of `n` rotated pairs; empty if the file has no such tensor.
Result<std::vector<double>> read_divisors(const WeightCatalog& catalog, const char* name, int64_t n) {
  const TensorInfo* info = catalog.file().find(name);
  if (!info) return std::vector<double>();
  if (info->n_values() != n)
    return error(Code::kCorrupt, "the tensor {} has {} values, expected {}", name, info->n_values(), n);
  std::vector<float> divisors(static_cast<size_t>(n));
  TRY(catalog.file().read_rows_f32(*info, 0, divisors));
  for (size_t i = 0; i < divisors.size(); ++i)
    if (!(divisors[i] > 0) || !std::isfinite(divisors[i]))
      return error(Code::kCorrupt, "the tensor {} has {} at {}, expected a positive number", name, divisors[i], i);
  return std::vector<double>(divisors.begin(), divisors.end());
}

void divide(std::vector<double>& frequencies, const std::vector<double>& divisors) {
  for (size_t i = 0; i < divisors.size(); ++i) frequencies[i] /= divisors[i];
}

// The keys rope.scaling.*.
struct RopeKeys {
  std::string type;
  double base, factor, attention_factor;
  int64_t dims, original_context;
};

Result<RopeKeys> read_rope_keys(const Hyper& hyper, int64_t head_dim, int64_t trained_context) {
  RopeKeys k{};
  k.dims = TRY(hyper.count_or("rope.dimension_count", head_dim, 2, head_dim));
  if (k.dims % 2) return error(Code::kCorrupt, "{} is {}, an odd number", hyper.key("rope.dimension_count"), k.dims);
  k.base = TRY(hyper.real_or("rope.freq_base", 10000.0, 1.0, 1e12));
  // The older key of linear scaling.
  k.factor = TRY(hyper.real_or("rope.scale_linear", 1.0, 1e-6, 1e6));
  k.factor = TRY(hyper.real_or("rope.scaling.factor", k.factor, 1e-6, 1e6));
  k.type = TRY(hyper.metadata().string_or(hyper.key("rope.scaling.type"), k.factor != 1 ? "linear" : "none"));
  k.original_context = TRY(hyper.count_or("rope.scaling.original_context_length", trained_context, 1, kMaxContext));
  k.attention_factor = TRY(hyper.real_or("rope.scaling.attn_factor", 1.0, 1e-6, 1e6));
  return k;
}

Result<Rope> yarn_rope(const Hyper& hyper, const RopeKeys& k) {
  if (k.base <= 1)
    return error(Code::kCorrupt, "{} is {}, YaRN needs more than 1", hyper.key("rope.freq_base"), k.base);
  const double fast = TRY(hyper.real_or("rope.scaling.yarn_beta_fast", 32, 1e-6, 1e6));
  const double slow = TRY(hyper.real_or("rope.scaling.yarn_beta_slow", 1, 1e-6, 1e6));
  const double attention = TRY(hyper.real_or("rope.scaling.yarn_attn_factor", k.attention_factor, 1e-6, 1e6));
  Rope rope;
  rope.frequencies = Rope::yarn(k.dims, k.base, k.factor, static_cast<double>(k.original_context), fast, slow);
  rope.magnitude = static_cast<float>(attention * (1 + 0.1 * std::log(k.factor)));
  return rope;
}

}  // namespace

Result<int64_t> Hyper::count(const char* suffix, int64_t min, int64_t max) const {
  const int64_t value = TRY(metadata_.get_int(key(suffix)));
  if (value < min || value > max) return out_of_range(key(suffix), value, min, max);
  return value;
}

Result<int64_t> Hyper::count_or(const char* suffix, int64_t otherwise, int64_t min, int64_t max) const {
  if (!metadata_.contains(key(suffix))) return otherwise;
  return count(suffix, min, max);
}

Result<double> Hyper::real(const char* suffix, double min, double max) const {
  const double value = TRY(metadata_.get_float(key(suffix)));
  if (!std::isfinite(value) || value < min || value > max) return out_of_range(key(suffix), value, min, max);
  return value;
}

Result<double> Hyper::real_or(const char* suffix, double otherwise, double min, double max) const {
  if (!metadata_.contains(key(suffix))) return otherwise;
  return real(suffix, min, max);
}

Result<std::vector<int64_t>> Hyper::per_layer(const char* suffix, int64_t n_layers, int64_t min, int64_t max) const {
  const MetaValue* value = metadata_.find(key(suffix));
  if (!value || value->type != MetaType::kArray) return std::vector<int64_t>(n_layers, TRY(count(suffix, min, max)));
  std::vector<int64_t> values = TRY(metadata_.get_ints(key(suffix)));
  if (static_cast<int64_t>(values.size()) != n_layers)
    return error(Code::kCorrupt, "{} has {} values for {} layers", key(suffix), values.size(), n_layers);
  for (const int64_t v : values)
    if (v < min || v > max) return out_of_range(key(suffix), v, min, max);
  return values;
}

Result<TransformerHyper> read_transformer(const Hyper& hyper, const WeightCatalog& catalog, NormKind norm) {
  TransformerHyper h{};
  h.n_layers = TRY(hyper.count("block_count", 1, kMaxLayers));
  h.d_model = TRY(hyper.count("embedding_length", 1, kMaxWidth));
  h.n_heads = TRY(hyper.count("attention.head_count", 1, kMaxHeads));
  h.n_kv_heads = TRY(hyper.count_or("attention.head_count_kv", h.n_heads, 1, kMaxHeads));
  if (h.n_heads % h.n_kv_heads != 0)
    return error(Code::kCorrupt, "{} is {}, which {} KV heads do not divide", hyper.key("attention.head_count"),
                 h.n_heads, h.n_kv_heads);
  if (!hyper.metadata().contains(hyper.key("attention.key_length")) && h.d_model % h.n_heads != 0)
    return error(Code::kCorrupt, "{} is {}, which {} heads do not divide", hyper.key("embedding_length"), h.d_model,
                 h.n_heads);
  h.head_dim = TRY(hyper.count_or("attention.key_length", h.d_model / h.n_heads, 1, kMaxHeadDim));
  if (h.head_dim > kMaxHeadDim)
    return error(Code::kCorrupt, "heads of {} values, expected at most {}", h.head_dim, kMaxHeadDim);
  h.v_head_dim = TRY(hyper.count_or("attention.value_length", h.head_dim, 1, kMaxHeadDim));
  h.d_ff = TRY(hyper.count_or("feed_forward_length", 0, 0, kMaxWidth));
  h.context = TRY(hyper.count("context_length", 1, kMaxContext));
  h.norm_epsilon = static_cast<float>(TRY(hyper.real(
      norm == NormKind::kRms ? "attention.layer_norm_rms_epsilon" : "attention.layer_norm_epsilon", 1e-30, 1.0)));
  h.vocab_size = TRY(read_vocab_size(catalog));
  return h;
}

Result<int64_t> read_vocab_size(const WeightCatalog& catalog) {
  const TensorInfo* embedding = catalog.file().find("token_embd.weight");
  if (!embedding) return error(Code::kNotFound, "the tensor token_embd.weight is missing");
  if (embedding->dims.size() != 2 || embedding->dims[1] > kMaxVocab)
    return error(Code::kCorrupt, "the tensor token_embd.weight is not a matrix of at most {} rows", kMaxVocab);
  return embedding->dims[1];
}

Result<MixtureHyper> read_mixture(const Hyper& hyper, int64_t otherwise_ff) {
  MixtureHyper m{};
  m.n_experts = TRY(hyper.count_or("expert_count", 0, 0, kMaxExperts));
  if (m.n_experts == 0) return m;
  m.n_used = TRY(hyper.count("expert_used_count", 1, m.n_experts));
  m.expert_ff = TRY(hyper.count_or("expert_feed_forward_length", otherwise_ff, 1, kMaxWidth));
  return m;
}

Rope RopeScheme::at(int64_t context) const {
  Rope rope = rope_;
  if (context <= original_context_) return rope;
  if (!long_frequencies_.empty()) rope.frequencies = long_frequencies_;
  if (dynamic_factor_ > 0) {
    const double grown = static_cast<double>(context) / static_cast<double>(original_context_);
    const double dims = static_cast<double>(rope.dims());
    rope.frequencies =
        Rope::plain(rope.dims(), base_ * std::pow(dynamic_factor_ * grown - (dynamic_factor_ - 1), dims / (dims - 2)));
  }
  return rope;
}

Result<RopeScheme> read_rope(const Hyper& hyper, const WeightCatalog& catalog, int64_t head_dim, bool interleaved,
                             int64_t trained_context) {
  const RopeKeys k = TRY(read_rope_keys(hyper, head_dim, trained_context));
  const auto short_divisors = TRY(read_divisors(catalog, "rope_factors_short.weight", k.dims / 2));
  const auto long_divisors = TRY(read_divisors(catalog, "rope_factors_long.weight", k.dims / 2));
  const bool long_rope = k.type == "longrope" || k.type == "su" || !short_divisors.empty() || !long_divisors.empty();
  RopeScheme scheme;
  scheme.original_context_ = k.original_context;
  if (long_rope) {
    if (short_divisors.empty() || long_divisors.empty())
      return error(Code::kNotFound, "the tensor rope_factors_{}.weight is missing; LongRoPE needs it",
                   short_divisors.empty() ? "short" : "long");
    scheme.rope_.frequencies = scheme.long_frequencies_ = Rope::plain(k.dims, k.base);
    divide(scheme.rope_.frequencies, short_divisors);
    divide(scheme.long_frequencies_, long_divisors);
    scheme.rope_.magnitude = static_cast<float>(k.attention_factor);
  } else if (k.type == "yarn") {
    scheme.rope_ = TRY(yarn_rope(hyper, k));
  } else if (k.type == "linear") {
    scheme.rope_.frequencies = Rope::plain(k.dims, k.base, k.factor);
  } else if (k.type == "dynamic") {
    if (k.dims < 4 || k.factor < 1)
      return error(Code::kCorrupt, "dynamic rope scaling of {} dimensions by {}, expected 4 or more and a factor of 1 or more",
                   k.dims, k.factor);
    scheme.rope_.frequencies = Rope::plain(k.dims, k.base);
    scheme.dynamic_factor_ = k.factor;
    scheme.base_ = k.base;
  } else if (k.type == "none" || k.type == "llama3") {
    scheme.rope_.frequencies = Rope::plain(k.dims, k.base);
  } else {
    return error(Code::kUnsupported, "{} is '{}'; known are none, linear, dynamic, yarn, llama3 and longrope",
                 hyper.key("rope.scaling.type"), k.type);
  }
  scheme.rope_.interleaved = interleaved;
  // How llama3 scaling and the like are written down.
  const auto divisors = TRY(read_divisors(catalog, "rope_freqs.weight", k.dims / 2));
  if (!divisors.empty() && scheme.dynamic_factor_ > 0)
    return error(Code::kUnsupported, "dynamic rope scaling together with the tensor rope_freqs.weight");
  divide(scheme.rope_.frequencies, divisors);
  return scheme;
}

}  // namespace venturi
