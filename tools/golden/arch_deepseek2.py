"""deepseek2 (V2: arXiv 2405.04434, V3: arXiv 2412.19437): latent attention and fine mixtures.

Keys and values come from one normed latent of kv_rank per token; a rotated part of n_rot entries
(neighbouring pairs) is shared by all heads and appended to each key. With YaRN the published code
scales scores by m(mscale_all_dim)^2 and rotated parts by m(mscale) / m(mscale_all_dim), which is 1
in every published model; m(s) = 0.1 s ln(factor) + 1, and the file holds 0.1 mscale_all_dim.

Variant "v2-lite": queries straight from x, softmax gate, no renormalising, kv_b in one matrix.
Variant "v3": queries through a normed latent, sigmoid gate, choice by groups with a bias,
renormalised weights, and kv_b split into k_b and v_b as newer converters write it.
"""

import math

import torch

import nn
from arch_llama import Decoder
from arch_mixtral import MixtureWeights
from golden import f32


class DeepSeek2(MixtureWeights, Decoder):
    arch = "deepseek2"
    pairing = "norm"
    tied = False
    n_heads = 3
    n_rot, nope_dim, v_dim, kv_rank = 8, 16, 20, 32
    q_rank = None
    n_leading_dense = 1
    d_ff = 32
    n_shared = 1
    factor = f32(4.0)
    original_context = 32
    context_length = 256
    mscale_all_dim = 0.707
    expert_scale = f32(1.0)

    def build_attention(self, p):
        d, key_dim = self.d_model, self.nope_dim + self.n_rot
        self.norm(p + "attn_norm", d)
        if self.q_rank:
            self.matrix(p + "attn_q_a.weight", self.q_rank, d)
            self.norm(p + "attn_q_a_norm", self.q_rank)
            self.matrix(p + "attn_q_b.weight", self.n_heads * key_dim, self.q_rank, 1.4)
        else:
            self.matrix(p + "attn_q.weight", self.n_heads * key_dim, d, 1.4)
        self.matrix(p + "attn_kv_a_mqa.weight", self.kv_rank + self.n_rot, d, 1.4)
        self.norm(p + "attn_kv_a_norm", self.kv_rank)
        self.build_decompression(p)
        self.matrix(p + "attn_output.weight", d, self.n_heads * self.v_dim)

    def build_decompression(self, p):
        self.matrix(p + "attn_kv_b.weight", self.n_heads * (self.nope_dim + self.v_dim),
                    self.kv_rank, 1.2)

    def decompression(self, p):
        """Per head: the matrices from the latent to keys and to values."""
        kv_b = self.w[p + "attn_kv_b.weight"].view(self.n_heads, -1, self.kv_rank)
        return kv_b[:, :self.nope_dim], kv_b[:, self.nope_dim:]

    def build_feed_forward(self, p, layer):
        if layer < self.n_leading_dense:
            return super().build_feed_forward(p, layer)
        d, shared_ff = self.d_model, self.expert_ff * self.n_shared
        self.norm(p + "ffn_norm", d)
        self.build_experts(p)
        self.matrix(p + "ffn_gate_shexp.weight", shared_ff, d, 1.5)
        self.matrix(p + "ffn_up_shexp.weight", shared_ff, d)
        self.matrix(p + "ffn_down_shexp.weight", d, shared_ff)

    def write_head_keys(self, gguf):
        gguf.u32(self.key("attention.head_count_kv"), self.n_heads)
        gguf.u32(self.key("attention.key_length"), self.nope_dim + self.n_rot)
        gguf.u32(self.key("attention.value_length"), self.v_dim)

    def write_keys(self, gguf):
        gguf.u32(self.key("feed_forward_length"), self.d_ff)
        gguf.u32(self.key("attention.head_count"), self.n_heads)
        self.write_head_keys(gguf)
        gguf.f32(self.key("attention.layer_norm_rms_epsilon"), self.eps)
        if self.q_rank:
            gguf.u32(self.key("attention.q_lora_rank"), self.q_rank)
        gguf.u32(self.key("attention.kv_lora_rank"), self.kv_rank)
        gguf.u32(self.key("rope.dimension_count"), self.n_rot)
        gguf.f32(self.key("rope.freq_base"), self.rope_base)
        gguf.string(self.key("rope.scaling.type"), "yarn")
        gguf.f32(self.key("rope.scaling.factor"), self.factor)
        gguf.u32(self.key("rope.scaling.original_context_length"), self.original_context)
        gguf.f32(self.key("rope.scaling.yarn_log_multiplier"), 0.1 * self.mscale_all_dim)
        gguf.u32(self.key("vocab_size"), self.vocab_size)
        gguf.u32(self.key("leading_dense_block_count"), self.n_leading_dense)
        self.write_expert_keys(gguf)
        gguf.u32(self.key("expert_feed_forward_length"), self.expert_ff)
        gguf.u32(self.key("expert_shared_count"), self.n_shared)
        gguf.f32(self.key("expert_weights_scale"), self.expert_scale)

    def frequencies(self, layer):
        return nn.yarn_frequencies(self.n_rot, self.rope_base, self.factor, self.original_context)

    def scale(self):
        magnitude = f32(0.1 * self.mscale_all_dim) * math.log(self.factor) + 1.0
        return magnitude**2 * (self.nope_dim + self.n_rot)**-0.5

    def attend(self, p, layer, x):
        n, w = len(x), self.w
        if self.q_rank:
            latent = self.rms(nn.linear(x, w[p + "attn_q_a.weight"]), p + "attn_q_a_norm")
            q = nn.linear(latent, w[p + "attn_q_b.weight"])
        else:
            q = nn.linear(x, w[p + "attn_q.weight"])
        q = q.view(n, self.n_heads, self.nope_dim + self.n_rot)  # per head: plain, rotated
        q_rotated = self.rotate(q[..., self.nope_dim:], layer)

        kv = nn.linear(x, w[p + "attn_kv_a_mqa.weight"])  # latent, then the part to rotate
        latent = nn.cached(self.rms(kv[:, :self.kv_rank], p + "attn_kv_a_norm"))
        k_rotated = nn.cached(self.rotate(kv[:, None, self.kv_rank:], layer))
        to_keys, to_values = self.decompression(p)
        k = torch.einsum("hdr,tr->thd", to_keys, latent)
        v = torch.einsum("hdr,tr->thd", to_values, latent)

        q = torch.cat([q[..., :self.nope_dim], q_rotated], -1)
        k = torch.cat([k, k_rotated.expand(-1, self.n_heads, -1)], -1)
        y = nn.attention(q, k, v, self.scale(), nn.causal_mask(n),
                         cache=lambda x: x)  # the latent is what is kept
        return nn.linear(y, w[p + "attn_output.weight"])

    def route(self, p, x, trace):
        scores = nn.linear(x, self.w[p + "ffn_gate_inp.weight"]).softmax(-1)
        chosen = nn.top_k(scores, self.n_used, trace)
        return chosen, scores.gather(-1, chosen) * self.expert_scale

    def feed_forward(self, p, layer, x, trace):
        if layer < self.n_leading_dense:
            return super().feed_forward(p, layer, x, trace)
        w = self.w
        shared = nn.swiglu(x, w[p + "ffn_gate_shexp.weight"], w[p + "ffn_up_shexp.weight"],
                           w[p + "ffn_down_shexp.weight"])
        return self.run_experts(p, x, *self.route(p, x, trace)) + shared


class V2Lite(DeepSeek2):
    variant = "v2-lite"
    n_experts, n_used = 4, 2
    expert_scale = f32(1.7)


class V3(DeepSeek2):
    variant = "v3"
    q_rank = 24
    n_experts, n_used = 6, 3
    n_groups, n_groups_used = 3, 2
    mscale_all_dim = 1.0
    expert_scale = f32(2.5)

    def build_decompression(self, p):
        h, r = self.n_heads, self.kv_rank
        k_b = self.normal(h, self.nope_dim, r) * 1.2 / r**0.5
        self.put(p + "attn_k_b.weight", k_b.transpose(0, 2, 1))  # [n_heads, kv_rank, nope_dim]
        self.matrix(p + "attn_v_b.weight", self.v_dim, r, 1.2, experts=h)

    def decompression(self, p):
        return self.w[p + "attn_k_b.weight"].transpose(1, 2), self.w[p + "attn_v_b.weight"]

    def build_experts(self, p):
        super().build_experts(p)
        self.vector(p + "exp_probs_b.bias", self.n_experts, 0.3)

    def write_head_keys(self, gguf):
        # Seen as attention over the latent: one KV head, whose key is latent and rotated part.
        gguf.u32(self.key("attention.head_count_kv"), 1)
        gguf.u32(self.key("attention.key_length"), self.kv_rank + self.n_rot)
        gguf.u32(self.key("attention.value_length"), self.kv_rank)
        gguf.u32(self.key("attention.key_length_mla"), self.nope_dim + self.n_rot)
        gguf.u32(self.key("attention.value_length_mla"), self.v_dim)

    def write_keys(self, gguf):
        super().write_keys(gguf)
        gguf.u32(self.key("expert_gating_func"), 2)  # 1 softmax, 2 sigmoid
        gguf.boolean(self.key("expert_weights_norm"), True)
        gguf.u32(self.key("expert_group_count"), self.n_groups)
        gguf.u32(self.key("expert_group_used_count"), self.n_groups_used)

    def route(self, p, x, trace):
        """Groups by the sum of their two best biased scores, experts by biased score within the
        groups kept; weights are the scores without bias, renormalised."""
        scores = torch.sigmoid(nn.linear(x, self.w[p + "ffn_gate_inp.weight"]))
        biased = scores + self.w[p + "exp_probs_b.bias"]
        grouped = biased.view(len(x), self.n_groups, -1)
        group_scores = grouped.topk(2, dim=-1).values.sum(-1)
        kept = nn.top_k(group_scores, self.n_groups_used, trace)
        allowed = torch.zeros_like(group_scores, dtype=torch.bool).scatter(1, kept, True)
        masked = grouped.masked_fill(~allowed[..., None], -math.inf).view(len(x), -1)
        chosen = nn.top_k(masked, self.n_used, trace)
        weights = scores.gather(-1, chosen)
        return chosen, weights / weights.sum(-1, keepdim=True) * self.expert_scale


MODELS = [V2Lite, V3]
