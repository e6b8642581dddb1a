#include "formats/convert_types.h"

#include <algorithm>

namespace venturi {

namespace {

struct Mixture {
  std::string_view name, base;
  uint32_t file_type;  // general.file_type's numbers
};
constexpr Mixture kMixtures[] = {
    {"F32", "F32", 0},       {"F16", "F16", 1},      {"BF16", "BF16", 32},
    {"Q4_0", "Q4_0", 2},     {"Q4_1", "Q4_1", 3},    {"Q5_0", "Q5_0", 8},
    {"Q5_1", "Q5_1", 9},     {"Q8_0", "Q8_0", 7},    {"Q2_K", "Q2_K", 10},
    {"Q3_K_S", "Q3_K", 11},  {"Q3_K_M", "Q3_K", 12}, {"Q3_K_L", "Q3_K", 13},
    {"Q4_K_S", "Q4_K", 14},  {"Q4_K_M", "Q4_K", 15}, {"Q5_K_S", "Q5_K", 16},
    {"Q5_K_M", "Q5_K", 17},  {"Q6_K", "Q6_K", 18},   {"IQ4_NL", "IQ4_NL", 25},
    {"IQ4_XS", "IQ4_XS", 30}};
constexpr std::pair<std::string_view, std::string_view> kAliases[] = {
    {"Q3_K", "Q3_K_M"}, {"Q4_K", "Q4_K_M"}, {"Q5_K", "Q5_K_M"}};

enum class Where { kAll, kFirst2, kFirst4, kFirstEighth, kFirstSixteenth, kMoreBits };
enum class When {
  kAlways,
  kSharedKeys,
  kImportance,
  kNoImportance
};  // kSharedKeys: 4 queries a key

struct Rule {
  std::string_view mixture, tensor;
  Where where;
  When when;
  std::string_view codec;
};
// The first that fits a tensor holds.
constexpr Rule kRules[] = {
    {"Q2_K", "attn_v.weight", Where::kAll, When::kSharedKeys, "Q4_K"},
    {"Q2_K", "attn_v.weight", Where::kAll, When::kAlways, "Q3_K"},
    {"Q2_K", "ffn_down", Where::kAll, When::kAlways, "Q3_K"},
    {"Q2_K", "attn_output.weight", Where::kAll, When::kAlways, "Q3_K"},
    {"Q3_K_M", "attn_v.weight", Where::kFirst2, When::kAlways, "Q5_K"},
    {"Q3_K_M", "attn_v.weight", Where::kAll, When::kAlways, "Q4_K"},
    {"Q3_K_M", "ffn_down", Where::kFirstSixteenth, When::kAlways, "Q5_K"},
    {"Q3_K_M", "ffn_down", Where::kAll, When::kAlways, "Q4_K"},
    {"Q3_K_M", "attn_output.weight", Where::kAll, When::kAlways, "Q4_K"},
    {"Q3_K_M", "attn_qkv.weight", Where::kAll, When::kAlways, "Q4_K"},
    {"Q3_K_L", "attn_v.weight", Where::kAll, When::kAlways, "Q5_K"},
    {"Q3_K_L", "ffn_down", Where::kAll, When::kAlways, "Q5_K"},
    {"Q3_K_L", "attn_output.weight", Where::kAll, When::kAlways, "Q5_K"},
    {"Q3_K_L", "attn_qkv.weight", Where::kAll, When::kAlways, "Q4_K"},
    {"Q4_K_S", "attn_v.weight", Where::kFirst4, When::kAlways, "Q5_K"},
    {"Q4_K_S", "ffn_down", Where::kFirstEighth, When::kAlways, "Q5_K"},
    {"Q4_K_M", "attn_v.weight", Where::kMoreBits, When::kAlways, "Q6_K"},
    {"Q4_K_M", "ffn_down", Where::kMoreBits, When::kAlways, "Q6_K"},
    {"Q4_K_M", "attn_qkv.weight", Where::kAll, When::kAlways, "Q5_K"},
    {"Q5_K_M", "attn_v.weight", Where::kMoreBits, When::kAlways, "Q6_K"},
    {"Q5_K_M", "ffn_down", Where::kMoreBits, When::kAlways, "Q6_K"},
    {"Q5_K_M", "attn_qkv.weight", Where::kAll, When::kAlways, "Q6_K"},
    {"Q4_0", "ffn_down", Where::kFirstEighth, When::kImportance, "Q4_1"},
    {"Q5_0", "ffn_down", Where::kFirstEighth, When::kImportance, "Q5_1"},
    {"IQ4_NL", "attn_v.weight", Where::kAll, When::kSharedKeys, "Q5_K"},
    {"IQ4_NL", "ffn_down", Where::kFirstEighth, When::kNoImportance, "Q5_K"},
    {"IQ4_XS", "attn_v.weight", Where::kAll, When::kSharedKeys, "Q5_K"},
    {"IQ4_XS", "ffn_down", Where::kFirstEighth, When::kNoImportance, "Q5_K"},
};

// What takes the place of a codec whose block does not divide a row: about its bits, blocks of 32.
constexpr std::pair<std::string_view, std::string_view> kFallbacks[] = {
    {"Q2_K", "IQ4_NL"}, {"Q3_K", "IQ4_NL"}, {"IQ4_XS", "IQ4_NL"},
    {"Q4_K", "Q5_0"},   {"Q5_K", "Q5_1"},   {"Q6_K", "Q8_0"}};

// Small, and what everything else hangs on.
constexpr std::string_view kAlwaysF32[] = {"ffn_gate_inp.", "ffn_gate_inp_shexp.", "position_embd.",
                                           "token_types.", "ssm_conv1d."};

int block_of(std::string_view name) {
  if (!name.starts_with("blk.")) return 0;
  int block = 0;
  for (size_t i = 4; i < name.size() && i < 10 && name[i] >= '0' && name[i] <= '9'; ++i)
    block = block * 10 + (name[i] - '0');
  return block;
}

bool is_there(Where where, int block, int n_blocks) {
  switch (where) {
    case Where::kAll:
      return true;
    case Where::kFirst2:
      return block < 2;
    case Where::kFirst4:
      return block < 4;
    case Where::kFirstEighth:
      return block < n_blocks / 8;
    case Where::kFirstSixteenth:
      return block < n_blocks / 16;
    // The first and last eighth, and every third between.
    case Where::kMoreBits:
      return block < n_blocks / 8 || block >= 7 * n_blocks / 8 || (block - n_blocks / 8) % 3 == 2;
  }
  return false;
}

bool is_float(const Codec* codec) { return codec->block_elems == 1; }

}  // namespace

bool stays_f32(const TensorInfo& tensor) {
  if (tensor.dims.size() < 2 || !tensor.name.ends_with(".weight") ||
      tensor.name.ends_with("_norm.weight"))
    return true;
  return std::any_of(std::begin(kAlwaysF32), std::end(kAlwaysF32), [&](std::string_view part) {
    return tensor.name.find(part) != std::string::npos;
  });
}

std::vector<std::string_view> all_convert_types() {
  std::vector<std::string_view> names;
  for (const Mixture& mixture : kMixtures)
    if (find_codec(mixture.base)) names.push_back(mixture.name);
  return names;
}

Result<TypeRules> TypeRules::create(std::string_view type, const ModelFile& model, bool pure,
                                    bool has_importance) {
  for (const auto& [alias, name] : kAliases)
    if (type == alias) type = name;
  TypeRules rules;
  for (const Mixture& mixture : kMixtures) {
    if (mixture.name != type) continue;
    rules.mixture_ = mixture.name;
    rules.base_ = find_codec(mixture.base);
    rules.file_type_ = mixture.file_type;
  }
  if (!rules.base_)
    return error(Code::kInvalidArgument, "the type '{}' is not known; known are {}", type,
                 fmt::join(all_convert_types(), ", "));
  rules.pure_ = pure;
  rules.has_importance_ = has_importance;
  rules.has_output_ = model.find("output.weight") != nullptr;
  const std::string arch = TRY(model.metadata.string_or("general.architecture", ""));
  const uint64_t blocks = TRY(model.metadata.uint_or(arch + ".block_count", 0));
  rules.n_blocks_ = static_cast<int>(std::min<uint64_t>(blocks, 1'000'000));
  // Sizes may be lists, a number for each block: then a type's finer rules do not apply.
  const auto heads = model.metadata.get_uint(arch + ".attention.head_count");
  const auto kv_heads = model.metadata.get_uint(arch + ".attention.head_count_kv");
  if (heads.ok() && kv_heads.ok() && *kv_heads > 0)
    rules.queries_per_key_ = static_cast<int>(std::min<uint64_t>(*heads / *kv_heads, 1'000'000));
  rules.n_experts_ = TRY(model.metadata.uint_or(arch + ".expert_count", 0));
  return rules;
}

const Codec* TypeRules::wanted(const TensorInfo& tensor) const {
  if (pure_ || is_float(base_)) return base_;
  const bool is_output =
      tensor.name == "output.weight" || (!has_output_ && tensor.name == "token_embd.weight");
  if (is_output) return mixture_ == "Q8_0" ? base_ : find_codec("Q6_K");
  if (tensor.name == "token_embd.weight") return base_;
  // Small beside eight experts, and worth it.
  const bool eight = n_experts_ == 8;
  if (eight && (tensor.name.ends_with("attn_v.weight") || tensor.name.ends_with("attn_k.weight")))
    return find_codec("Q8_0");
  for (const Rule& rule : kRules) {
    if (rule.mixture != mixture_ || tensor.name.find(rule.tensor) == std::string::npos) continue;
    if (!is_there(rule.where, block_of(tensor.name), n_blocks_)) continue;
    if (rule.when == When::kSharedKeys && queries_per_key_ < 4) continue;
    if (rule.when == When::kImportance && !has_importance_) continue;
    if (rule.when == When::kNoImportance && has_importance_) continue;
    return find_codec(rule.codec);
  }
  return base_;
}

TypeChoice TypeRules::choose(const TensorInfo& tensor) const {
  if (stays_f32(tensor)) return {find_codec("F32"), {}};
  const Codec* codec = wanted(tensor);
  if (!codec) codec = base_;
  if (tensor.n_in() % codec->block_elems == 0) return {codec, {}};
  const Codec* instead = nullptr;
  for (const auto& [from, to] : kFallbacks)
    if (codec->name == from) instead = find_codec(to);
  if (!instead || tensor.n_in() % instead->block_elems != 0) instead = find_codec("F16");
  return {instead,
          fmt::format("rows of {} are not whole blocks of {} ({}); {} is used", tensor.n_in(),
                      codec->name, codec->block_elems, instead->name)};
}

}  // namespace venturi
