// How one family of Hugging Face models is spelt in GGUF: names of tensors, and config.json to
// keys.
//
// A family is one file in hf/, `x.cc`, that defines `const HfArchitecture hf_x`; the build lists
// the folder and writes the registry. Facts to match: what llama.cpp's converter writes.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "formats/hf_config.h"
#include "formats/metadata.h"
#include "formats/model_file.h"

namespace venturi {

enum class HfTransform : uint8_t {
  kNone,
  kRopeQuery,    // rows of each query head from halves to pairs
  kRopeKey,      // rows of each key head likewise
  kTransposed,   // stored [n_in, n_out]
  kAddOne,       // stored less 1
  kNegativeExp,  // -exp(stored)
  kColumn,       // {n} stands as {1, n} in GGUF
  kNegativeExpColumn,
};

// Patterns: "{}" is the block, "{e}" the expert, a last "*" is "weight" or "bias" (or BERT's old
// "gamma" and "beta") in both. An empty `gguf` says that the tensor is not needed; then a last "**"
// is anything.
struct HfRule {
  std::string_view hf, gguf;
  HfTransform transform = HfTransform::kNone;
};

// A leading `from` is read as `to`.
struct HfPrefix {
  std::string_view from, to;
};

// The feed-forward's non-linearity.
struct HfActivation {
  std::string_view field = "hidden_act";  // of config.json
  std::string_view usual = "silu";        // what GGUF's name of the architecture stands for
  bool named = false;  // another can be said, by the key ARCH.hidden_activation in Hugging Face's words
};

// What a model's config.json calls it: an entry of "architectures", and "model_type".
struct HfClass {
  std::string_view name, model_type;
};

// Stored as one where newer GGUF files have two, head by head: the rows of `first` transposed, then
// the rows of `second`.
struct HfJoin {
  std::string_view hf, first, second;
};

// Another file of the directory, "1_Pooling/config.json".
struct HfFile {
  std::string path;
  nlohmann::json content;
};

struct HfArchitecture {
  std::string_view name;  // general.architecture
  // Values of config.json's "architectures" that are this family. Of two families that share a GGUF
  // name, each has its own.
  std::span<const std::string_view> classes;
  std::span<const HfPrefix> prefixes;
  std::span<const HfRule> rules;
  // Adds the keys that set_common_metadata does not.
  Status (*set_metadata)(const HfConfig& config, Metadata& metadata);
  // Sets what a rule cannot say; may be null.
  Status (*adjust)(const Metadata& metadata, TensorInfo& tensor) = nullptr;
  // Blocks past block_count are left out (multi-token prediction heads) and not an error.
  bool skips_extra_blocks = false;
  // The field of config.json that holds the text model's config, in a model of several parts.
  std::string_view nested_config = {};
  HfActivation activation = {};
  // The output is the embedding unless the config says otherwise.
  bool tied_by_default = false;

  // The way back, for families that have a model_type; without one they are refused by name.
  std::string_view model_type = {};
  // Which class a model is, where it is not always classes[0] of model_type; may be null.
  Result<HfClass> (*class_of)(const ModelFile& model) = nullptr;
  // Undoes set_metadata.
  Status (*set_config)(const ModelFile& model, nlohmann::json& config) = nullptr;
  // Undoes adjust, on the shape of the tensor of that GGUF name; may be null.
  void (*restore)(std::string_view name, std::vector<int64_t>& shape) = nullptr;
  std::string_view own_prefix = {};  // written in front of every name but lm_head's
  std::span<const HfJoin> joins = {};
  Result<std::vector<HfFile>> (*more_files)(const Metadata& metadata) = nullptr;  // may be null
};

std::span<const HfArchitecture* const> all_hf_architectures();
const HfArchitecture* find_hf_architecture(std::string_view class_name);
// The family that is written back for a general.architecture. Code::kUnsupported naming those that are.
Result<const HfArchitecture*> find_hf_family(std::string_view name);

// general.architecture, sizes, epsilons, rope base and scaling: what all families spell the same.
Status set_common_metadata(const HfConfig& config, std::string_view architecture,
                           Metadata& metadata);

// ARCH.hidden_activation where it is not the usual one; an error where the family has no key for it.
Status set_activation(const HfConfig& config, const HfActivation& activation, Metadata& metadata);

// "llama.attention.head_count": ARCH of general.architecture, a dot, `name`.
std::string arch_key(const Metadata& metadata, std::string_view name);

// Copies a field to ARCH.name if it is there.
Status copy_uint(const HfConfig& config, std::string_view field, std::string_view name,
                 Metadata& metadata);
Status copy_number(const HfConfig& config, std::string_view field, std::string_view name,
                   Metadata& metadata);

// What a Hugging Face tensor's name means in a family.
struct HfMatch {
  const HfRule* rule = nullptr;  // null: the family has no such tensor
  size_t rule_index = 0;
  int block = -1, expert = -1;
  std::string gguf;  // the whole name; empty if the tensor is not needed
};
HfMatch match_hf_name(const HfArchitecture& architecture, std::string_view name);
// Whether a GGUF name is the pattern's, and if so what its block is (-1: the pattern has none).
bool is_gguf_name(std::string_view pattern, std::string_view name, int& block);
// The other way: the Hugging Face name of a GGUF tensor (of one expert of it), empty if there is
// none.
std::string hf_name_of(const HfArchitecture& architecture, std::string_view gguf_name, int expert,
                       const HfRule** rule);

// The factors by which Llama 3's scaling divides each rotation's frequency: rope_freqs.weight.
Result<std::vector<float>> llama3_rope_factors(const HfConfig& config);
// LongRoPE's "short_factor" or "long_factor", empty if the config has another scaling:
// rope_factors_short.weight and rope_factors_long.weight.
Result<std::vector<float>> long_rope_factors(const HfConfig& config, std::string_view field);

}  // namespace venturi
