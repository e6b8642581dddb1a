"""Mixtral (arXiv 2401.04088), "llama" in GGUF: llama whose feed-forward is a mixture.

The gate is a softmax over the logits of the chosen experts (equally: over all, renormalised).
"""

import nn
from arch_llama import Llama


class MixtureWeights:
    """The tensors of a mixture, for any architecture."""

    n_experts, n_used, expert_ff = 4, 2, 32

    def build_experts(self, p):
        d, n = self.d_model, self.n_experts
        # A gain that makes the gate's choices clear and its weights uneven.
        self.matrix(p + "ffn_gate_inp.weight", n, d, 1.5, keep_f32=True)
        self.matrix(p + "ffn_gate_exps.weight", self.expert_ff, d, 1.5, experts=n)
        self.matrix(p + "ffn_up_exps.weight", self.expert_ff, d, experts=n)
        self.matrix(p + "ffn_down_exps.weight", d, self.expert_ff, experts=n)

    def write_expert_keys(self, gguf):
        gguf.u32(self.key("expert_count"), self.n_experts)
        gguf.u32(self.key("expert_used_count"), self.n_used)

    def run_experts(self, p, x, chosen, weights, act=nn.silu):
        w = self.w
        return nn.experts(x, chosen, weights, w[p + "ffn_gate_exps.weight"],
                          w[p + "ffn_up_exps.weight"], w[p + "ffn_down_exps.weight"], act)


class Mixtral(MixtureWeights, Llama):
    variant = "mixtral"
    d_ff = 32

    def build_feed_forward(self, p, layer):
        self.norm(p + "ffn_norm", self.d_model)
        self.build_experts(p)

    def write_keys(self, gguf):
        super().write_keys(gguf)
        self.write_expert_keys(gguf)

    def feed_forward(self, p, layer, x, trace):
        logits = nn.linear(x, self.w[p + "ffn_gate_inp.weight"])
        chosen = nn.top_k(logits, self.n_used, trace)
        return self.run_experts(p, x, chosen, logits.gather(-1, chosen).softmax(-1))


MODELS = [Mixtral]
