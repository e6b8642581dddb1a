// Names that the pre-norm decoders of Hugging Face share, to be put together in the order in which
// the tensors are to be written.
#pragma once

#include <array>

#include "formats/hf_architecture.h"

namespace venturi::hf_rules {

template <size_t... n>
constexpr auto join(const std::array<HfRule, n>&... lists) {
  std::array<HfRule, (n + ...)> out{};
  size_t at = 0;
  const auto add = [&](const auto& list) {
    for (const HfRule& rule : list) out[at++] = rule;
  };
  (add(lists), ...);
  return out;
}

// Embedding, head, and the norms before attention and feed-forward.
inline constexpr auto kFrame = std::to_array<HfRule>({
    {"model.embed_tokens.weight", "token_embd.weight"},
    {"model.norm.weight", "output_norm.weight"},
    {"lm_head.weight", "output.weight"},
    {"model.layers.{}.input_layernorm.weight", "blk.{}.attn_norm.weight"},
    {"model.layers.{}.post_attention_layernorm.weight", "blk.{}.ffn_norm.weight"},
});

inline constexpr auto kAttention = std::to_array<HfRule>({
    {"model.layers.{}.self_attn.q_proj.*", "blk.{}.attn_q.*"},
    {"model.layers.{}.self_attn.k_proj.*", "blk.{}.attn_k.*"},
    {"model.layers.{}.self_attn.v_proj.*", "blk.{}.attn_v.*"},
    {"model.layers.{}.self_attn.o_proj.*", "blk.{}.attn_output.*"},
});

// Where rotary pairs are neighbours in GGUF and halves in Hugging Face.
inline constexpr auto kPairedAttention = std::to_array<HfRule>({
    {"model.layers.{}.self_attn.q_proj.*", "blk.{}.attn_q.*", HfTransform::kRopeQuery},
    {"model.layers.{}.self_attn.k_proj.*", "blk.{}.attn_k.*", HfTransform::kRopeKey},
    {"model.layers.{}.self_attn.v_proj.*", "blk.{}.attn_v.*"},
    {"model.layers.{}.self_attn.o_proj.*", "blk.{}.attn_output.*"},
});

inline constexpr auto kHeadNorms = std::to_array<HfRule>({
    {"model.layers.{}.self_attn.q_norm.weight", "blk.{}.attn_q_norm.weight"},
    {"model.layers.{}.self_attn.k_norm.weight", "blk.{}.attn_k_norm.weight"},
});

inline constexpr auto kGatedFeedForward = std::to_array<HfRule>({
    {"model.layers.{}.mlp.gate_proj.*", "blk.{}.ffn_gate.*"},
    {"model.layers.{}.mlp.up_proj.*", "blk.{}.ffn_up.*"},
    {"model.layers.{}.mlp.down_proj.*", "blk.{}.ffn_down.*"},
});

inline constexpr auto kExperts = std::to_array<HfRule>({
    {"model.layers.{}.mlp.gate.weight", "blk.{}.ffn_gate_inp.weight"},
    {"model.layers.{}.mlp.experts.{e}.gate_proj.weight", "blk.{}.ffn_gate_exps.weight"},
    {"model.layers.{}.mlp.experts.{e}.up_proj.weight", "blk.{}.ffn_up_exps.weight"},
    {"model.layers.{}.mlp.experts.{e}.down_proj.weight", "blk.{}.ffn_down_exps.weight"},
});

// Buffers that older versions stored.
inline constexpr auto kUnneeded = std::to_array<HfRule>({
    {"model.layers.{}.self_attn.rotary_emb.inv_freq", ""},
});

}  // namespace venturi::hf_rules
