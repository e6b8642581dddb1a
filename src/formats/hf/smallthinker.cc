// SmallThinker: layers that rotate, and layers with a window, are lists in the config; GGUF knows the
// two patterns that were published.
#include "formats/hf_config_write.h"
#include "formats/hf_rules.h"

namespace venturi {

namespace {

constexpr std::string_view kClasses[] = {"SmallThinkerForCausalLM"};

constexpr auto kExperts = std::to_array<HfRule>({
    {"model.layers.{}.block_sparse_moe.primary_router.weight", "blk.{}.ffn_gate_inp.weight"},
    {"model.layers.{}.block_sparse_moe.experts.{e}.gate.weight", "blk.{}.ffn_gate_exps.weight"},
    {"model.layers.{}.block_sparse_moe.experts.{e}.up.weight", "blk.{}.ffn_up_exps.weight"},
    {"model.layers.{}.block_sparse_moe.experts.{e}.down.weight", "blk.{}.ffn_down_exps.weight"},
});
constexpr auto kRules = hf_rules::join(hf_rules::kFrame, hf_rules::kAttention, kExperts);

constexpr uint64_t kGlobalEvery = 4;

// An entry of both lists: 1 for the layers that rotate and see a window, or the same for all.
int layout(uint64_t layer, bool windowed, int otherwise) {
  return windowed ? static_cast<int>(layer % kGlobalEvery != 0) : otherwise;
}

Status set_layouts(const HfConfig& config, Metadata& metadata) {
  const uint64_t n_layers = TRY(metadata.get_uint("smallthinker.block_count"));
  const auto is = [&](const char* field, bool windowed, int otherwise) {
    const nlohmann::json* list = config.find(field);
    if (!list) return !windowed;
    bool same = list->is_array() && list->size() == n_layers;
    for (uint64_t i = 0; same && i < n_layers; ++i) same = (*list)[i] == layout(i, windowed, otherwise);
    return same;
  };
  if (is("sliding_window_layout", false, 0) && is("rope_layout", false, 1)) return {};
  if (!is("sliding_window_layout", true, 0) || !is("rope_layout", true, 0))
    return error(Code::kUnsupported,
                 "{}: rope_layout and sliding_window_layout are neither 1 and 0 everywhere nor both "
                 "0, 1, 1, 1 over and over, which is what GGUF can say for smallthinker",
                 config.path());
  metadata.set_uint("smallthinker.attention.sliding_window",
                    TRY(config.uint({"sliding_window_size"})).value_or(4096));
  return {};
}

Status set_metadata(const HfConfig& config, Metadata& metadata) {
  TRY(copy_uint(config, "moe_num_primary_experts", "expert_count", metadata));
  TRY(copy_uint(config, "moe_num_active_primary_experts", "expert_used_count", metadata));
  TRY(copy_uint(config, "moe_ffn_hidden_size", "expert_feed_forward_length", metadata));
  TRY(copy_uint(config, "moe_ffn_hidden_size", "feed_forward_length", metadata));
  const bool softmax = TRY(config.flag({"moe_primary_router_apply_softmax"})).value_or(false);
  metadata.set_uint("smallthinker.expert_gating_func", softmax ? 1 : 2);
  return set_layouts(config, metadata);
}

Status set_config(const ModelFile& model, nlohmann::json& config) {
  const Metadata& metadata = model.metadata;
  TRY(put_heads(model, {.size = true, .n_kv_heads = true}, config));
  TRY(put_uint(model, "expert_count", "moe_num_primary_experts", config));
  TRY(put_uint(model, "expert_used_count", "moe_num_active_primary_experts", config));
  TRY(put_expert_width(model, config));
  rename_field(config, "moe_intermediate_size", "moe_ffn_hidden_size");
  config.erase("intermediate_size");
  config["moe_primary_router_apply_softmax"] =
      TRY(metadata.uint_or("smallthinker.expert_gating_func", 2)) == 1;
  config["norm_topk_prob"] = true;
  const uint64_t window = TRY(metadata.uint_or("smallthinker.attention.sliding_window", 0));
  const uint64_t n_layers = TRY(metadata.get_uint("smallthinker.block_count"));
  if (n_layers > model.tensors.size())
    return error(Code::kCorrupt, "{}: smallthinker.block_count is {}, there are {} tensors", model.path, n_layers,
                 model.tensors.size());
  config["rope_layout"] = config["sliding_window_layout"] = nlohmann::json::array();
  for (uint64_t i = 0; i < n_layers; ++i) {
    config["rope_layout"].push_back(layout(i, window > 0, 1));
    config["sliding_window_layout"].push_back(layout(i, window > 0, 0));
  }
  config["sliding_window_size"] = window > 0 ? window : 4096;
  return {};
}

}  // namespace

extern const HfArchitecture hf_smallthinker;
const HfArchitecture hf_smallthinker{.name = "smallthinker",
                                     .classes = kClasses,
                                     .prefixes = {},
                                     .rules = kRules,
                                     .set_metadata = set_metadata,
                                     .activation = {.field = "hidden_act", .usual = "relu"},
                                     .tied_by_default = true,
                                     .model_type = "smallthinker",
                                     .set_config = set_config};

}  // namespace venturi
