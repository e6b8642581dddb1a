#include "formats/hf_tensors.h"

#include <algorithm>
#include <map>

#include "formats/byte_cursor.h"

namespace venturi {

namespace {

// One GGUF tensor and the stored tensors it is made of: one, or one for each expert.
struct Target {
  const HfRule* rule;
  std::string name;
  bool of_experts;
  std::map<int, const SafeTensor*> parts;  // by expert, or 0
};

const Codec* codec_of(const SafeTensor& tensor) {
  const bool known = tensor.dtype == "F32" || tensor.dtype == "F16" || tensor.dtype == "BF16";
  return known ? find_codec(tensor.dtype) : nullptr;
}

Error unusable(const SafeTensor& tensor, std::string_view why) {
  return error(Code::kUnsupported, "tensor {}: {}", shown(tensor.name), why);
}

// Which GGUF tensors there are, in order: those of no block first, then block by block, each in the
// order of the rules.
using Targets = std::map<std::pair<int, size_t>, std::vector<Target>>;

Status add_target(Targets& targets, const HfMatch& match, const SafeTensor& tensor) {
  auto& at_rule = targets[{match.block, match.rule_index}];
  const auto same = std::find_if(at_rule.begin(), at_rule.end(),
                                 [&](const Target& target) { return target.name == match.gguf; });
  Target& target =
      same != at_rule.end()
          ? *same
          : at_rule.emplace_back(Target{match.rule, match.gguf, match.expert >= 0, {}});
  if (!target.parts.emplace(std::max(match.expert, 0), &tensor).second)
    return error(Code::kCorrupt, "tensors {} and {} are both {}", shown(tensor.name),
                 shown(target.parts.at(std::max(match.expert, 0))->name), match.gguf);
  return {};
}

Result<Targets> find_targets(const HfArchitecture& architecture, const Metadata& metadata,
                             bool tied, const std::vector<SafeTensor>& stored) {
  const uint64_t n_blocks = TRY(metadata.get_uint(arch_key(metadata, "block_count")));
  Targets targets;
  for (const SafeTensor& tensor : stored) {
    const HfMatch match = match_hf_name(architecture, tensor.name);
    const bool past_the_end = match.block >= 0 && static_cast<uint64_t>(match.block) >= n_blocks;
    if (past_the_end && !architecture.skips_extra_blocks)
      return error(Code::kCorrupt, "tensor {} belongs to block {}, but the config says {} blocks",
                   shown(tensor.name), match.block, n_blocks);
    if (past_the_end || (match.rule && match.gguf.empty())) continue;
    if (!match.rule) {
      // Blocks that are left out may hold tensors that no rule knows.
      if (architecture.skips_extra_blocks &&
          tensor.name.starts_with(fmt::format("model.layers.{}.", n_blocks)))
        continue;
      return error(Code::kUnsupported, "tensor {} is none that the architecture {} has",
                   shown(tensor.name), architecture.name);
    }
    if (tied && match.gguf == "output.weight") continue;
    TRY(add_target(targets, match, tensor));
  }
  return targets;
}

Status set_rope(const Metadata& metadata, const Target& target, TensorInfo& tensor) {
  const auto rows = static_cast<uint64_t>(tensor.dims.size() == 1 ? tensor.dims[0] : tensor.n_rows());
  tensor.rope_heads = TRY(rope_heads(metadata, target.rule->transform, rows, target.name));
  return {};
}

Status set_transform(const Metadata& metadata, const Target& target, TensorInfo& tensor) {
  switch (target.rule->transform) {
    case HfTransform::kNone:
      return {};
    case HfTransform::kRopeQuery:
    case HfTransform::kRopeKey:
      return set_rope(metadata, target, tensor);
    case HfTransform::kTransposed:
      if (tensor.dims.size() != 2) return {};  // a bias
      std::swap(tensor.dims[0], tensor.dims[1]);
      tensor.transposed = true;
      return {};
    case HfTransform::kAddOne:
      tensor.add = 1;
      return {};
    case HfTransform::kNegativeExp:
      tensor.negative_exp = true;
      return {};
    case HfTransform::kNegativeExpColumn:
      tensor.negative_exp = true;
      [[fallthrough]];
    case HfTransform::kColumn:
      if (tensor.dims.size() == 1) tensor.dims.insert(tensor.dims.begin(), 1);
      return {};
  }
  return {};
}

Status check_experts(const Metadata& metadata, const Target& target) {
  const uint64_t expected = TRY(metadata.uint_or(arch_key(metadata, "expert_count"), 0));
  const auto last = static_cast<uint64_t>(target.parts.rbegin()->first);
  if (target.parts.size() != expected || last + 1 != expected)
    return error(Code::kCorrupt,
                 "tensor '{}': expected the experts 0 to {}, found {} of them, the last {}",
                 target.name, static_cast<int64_t>(expected) - 1, target.parts.size(), last);
  return {};
}

Result<TensorInfo> make_tensor(const HfArchitecture& architecture, const Metadata& metadata,
                               const Target& target) {
  if (target.of_experts) TRY(check_experts(metadata, target));
  const SafeTensor& first = *target.parts.begin()->second;
  TensorInfo tensor;
  tensor.name = target.name;
  tensor.codec = codec_of(first);
  if (!tensor.codec)
    return unusable(first,
                    fmt::format("its dtype is {}; F32, F16 and BF16 can be read", first.dtype));
  tensor.dims.assign(first.shape.rbegin(), first.shape.rend());
  if (target.of_experts) tensor.dims.push_back(static_cast<int64_t>(target.parts.size()));
  if (tensor.dims.empty() || tensor.dims.size() > 4)
    return unusable(first,
                    fmt::format("it has {} dimensions, expected 1 to 4", tensor.dims.size()));
  if (first.bytes == 0) return unusable(first, "it is empty");
  for (const auto& [expert, part] : target.parts) {
    if (part->shape != first.shape || part->dtype != first.dtype)
      return unusable(*part,
                      fmt::format("its shape or dtype is not that of {}", shown(first.name)));
    tensor.segments.push_back({part->file, part->offset, part->bytes});
  }
  TRY(set_transform(metadata, target, tensor));
  if (architecture.adjust) TRY(architecture.adjust(metadata, tensor));
  return tensor;
}

Status add_tensor(ModelFile& model, TensorInfo tensor) {
  if (!model.by_name.emplace(tensor.name, model.tensors.size()).second)
    return error(Code::kCorrupt, "tensor '{}' would be there twice", tensor.name);
  model.tensors.push_back(std::move(tensor));
  return {};
}

// A tensor of values that stand in the config, not in a file; none if there are none.
Status add_made(ModelFile& model, std::string name, std::span<const float> values) {
  if (values.empty()) return {};
  const auto* bytes = reinterpret_cast<const uint8_t*>(values.data());
  const uint64_t offset = model.made.size();
  model.made.insert(model.made.end(), bytes, bytes + values.size_bytes());
  TensorInfo tensor;
  tensor.name = std::move(name);
  tensor.codec = find_codec("F32");
  tensor.dims = {static_cast<int64_t>(values.size())};
  tensor.segments = {{kMadeFile, offset, values.size_bytes()}};
  return add_tensor(model, std::move(tensor));
}

Status add_rope_factors(const HfConfig& config, ModelFile& model) {
  TRY(add_made(model, "rope_freqs.weight", TRY(llama3_rope_factors(config))));
  TRY(add_made(model, "rope_factors_long.weight", TRY(long_rope_factors(config, "long_factor"))));
  return add_made(model, "rope_factors_short.weight",
                  TRY(long_rope_factors(config, "short_factor")));
}

}  // namespace

Result<int> rope_heads(const Metadata& metadata, HfTransform transform, uint64_t rows, std::string_view name) {
  const uint64_t n_heads = TRY(metadata.get_uint(arch_key(metadata, "attention.head_count")));
  const uint64_t heads = transform == HfTransform::kRopeQuery
                             ? n_heads
                             : TRY(metadata.uint_or(arch_key(metadata, "attention.head_count_kv"), n_heads));
  if (heads == 0 || heads > INT32_MAX || rows % heads != 0 || rows / heads % 2 != 0)
    return error(Code::kCorrupt, "tensor '{}': {} heads do not divide its {} rows into pairs", name,
                 heads, rows);
  return static_cast<int>(heads);
}

Status map_hf_tensors(const HfArchitecture& architecture, const HfConfig& config,
                      const std::vector<SafeTensor>& stored, ModelFile& model) {
  // A tied output may be stored all the same; it is the embedding then.
  const bool tied = TRY(config.flag({"tie_word_embeddings"})).value_or(architecture.tied_by_default);
  const Targets targets = TRY(find_targets(architecture, model.metadata, tied, stored));
  TRY(add_rope_factors(config, model));
  for (const auto& [position, at_rule] : targets)
    for (const Target& target : at_rule)
      TRY(add_tensor(model, TRY(make_tensor(architecture, model.metadata, target))));
  return {};
}

}  // namespace venturi
