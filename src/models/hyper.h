// Hyper-parameters from metadata, each with the range it must lie in: what a file says is checked
// here, so that the blocks need not.
#pragma once

#include <string>
#include <vector>

#include "formats/metadata.h"
#include "memory/weights.h"
#include "ops/rope.h"

namespace venturi {

class Hyper {
 public:
  Hyper(const Metadata& metadata, std::string architecture) : metadata_(metadata), architecture_(std::move(architecture)) {}

  // The key is "<architecture>.<suffix>". Out of [min, max]: Code::kCorrupt naming key and value.
  Result<int64_t> count(const char* suffix, int64_t min, int64_t max) const;
  Result<int64_t> count_or(const char* suffix, int64_t otherwise, int64_t min, int64_t max) const;
  Result<double> real(const char* suffix, double min, double max) const;
  Result<double> real_or(const char* suffix, double otherwise, double min, double max) const;
  // A number for all layers or an array with one for each.
  Result<std::vector<int64_t>> per_layer(const char* suffix, int64_t n_layers, int64_t min, int64_t max) const;
  std::string key(const char* suffix) const { return architecture_ + "." + suffix; }
  const Metadata& metadata() const { return metadata_; }
  const std::string& architecture() const { return architecture_; }

 private:
  const Metadata& metadata_;
  std::string architecture_;
};

// What nearly every transformer has.
struct TransformerHyper {
  int64_t n_layers, d_model, n_heads, n_kv_heads, head_dim, v_head_dim, d_ff, vocab_size, context;
  float norm_epsilon;
};
enum class NormKind { kRms, kLayer };
// Bounds that no known model is near; they keep products of hyper-parameters within 64 bits.
inline constexpr int64_t kMaxLayers = 4096, kMaxWidth = 1 << 20, kMaxHeads = 1 << 14, kMaxHeadDim = 4096;
inline constexpr int64_t kMaxVocab = 1 << 24, kMaxContext = int64_t{1} << 32, kMaxExperts = 1 << 12;

Result<TransformerHyper> read_transformer(const Hyper& hyper, const WeightCatalog& catalog, NormKind norm);

// Rows of token_embd.weight.
Result<int64_t> read_vocab_size(const WeightCatalog& catalog);

// What a mixture of experts has; n_experts is 0 where the file names none.
struct MixtureHyper {
  int64_t n_experts, n_used, expert_ff;
};
Result<MixtureHyper> read_mixture(const Hyper& hyper, int64_t otherwise_ff);

// The rotary embedding that the rope.* keys and the tensors rope_freqs.weight and
// rope_factors_{short,long}.weight describe. Two of the schemes ask how long the sequence is: NTK
// ("dynamic") and LongRoPE. The context that the engine was opened with decides for them, not the
// tokens there so far: else a key would depend on when it was computed.
class RopeScheme {
 public:
  Rope at(int64_t context) const;

 private:
  friend Result<RopeScheme> read_rope(const Hyper&, const WeightCatalog&, int64_t, bool, int64_t);
  Rope rope_;
  int64_t original_context_ = 0;           // up to which rope_ holds, if one of these is set
  std::vector<double> long_frequencies_;   // Ding et al., "LongRoPE", 2024
  // The base becomes base (factor n / original - factor + 1)^(dims / (dims - 2)) for n tokens.
  double dynamic_factor_ = 0, base_ = 0;
};
Result<RopeScheme> read_rope(const Hyper& hyper, const WeightCatalog& catalog, int64_t head_dim, bool interleaved,
                             int64_t trained_context);

}  // namespace venturi
