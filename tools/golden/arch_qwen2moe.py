"""qwen2moe (arXiv 2407.10671): softmax over all experts, the best k kept without renormalising,
and a shared expert behind a sigmoid gate of its own."""

import torch

import nn
from arch_mixtral import MixtureWeights
from arch_qwen2 import Qwen2


class Qwen2Moe(MixtureWeights, Qwen2):
    arch = "qwen2moe"
    tied = False
    d_model = 48
    n_heads, n_kv_heads, head_dim = 4, 2, 12
    n_experts, n_used, expert_ff, shared_ff = 4, 3, 32, 32
    d_ff = 96  # named in the file, used by no tensor

    def build_feed_forward(self, p, layer):
        d = self.d_model
        self.norm(p + "ffn_norm", d)
        self.build_experts(p)
        self.put(p + "ffn_gate_inp_shexp.weight", 1.5 * self.normal(d) / d**0.5)
        self.matrix(p + "ffn_gate_shexp.weight", self.shared_ff, d, 1.5)
        self.matrix(p + "ffn_up_shexp.weight", self.shared_ff, d)
        self.matrix(p + "ffn_down_shexp.weight", d, self.shared_ff)

    def write_keys(self, gguf):
        super().write_keys(gguf)
        self.write_expert_keys(gguf)
        gguf.u32(self.key("expert_feed_forward_length"), self.expert_ff)
        gguf.u32(self.key("expert_shared_feed_forward_length"), self.shared_ff)

    def feed_forward(self, p, layer, x, trace):
        w = self.w
        scores = nn.linear(x, w[p + "ffn_gate_inp.weight"]).softmax(-1)
        chosen = nn.top_k(scores, self.n_used, trace)
        routed = self.run_experts(p, x, chosen, scores.gather(-1, chosen))
        shared = nn.swiglu(x, w[p + "ffn_gate_shexp.weight"], w[p + "ffn_up_shexp.weight"],
                           w[p + "ffn_down_shexp.weight"])
        gate = torch.sigmoid(x @ w[p + "ffn_gate_inp_shexp.weight"])
        return routed + gate[:, None] * shared


MODELS = [Qwen2Moe]
