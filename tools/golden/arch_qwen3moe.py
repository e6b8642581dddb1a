"""qwen3moe (arXiv 2505.09388): qwen3 with a mixture; the k best softmax scores renormalised."""

import nn
from arch_mixtral import MixtureWeights
from arch_qwen3 import Qwen3


class Qwen3Moe(MixtureWeights, Qwen3):
    arch = "qwen3moe"
    n_heads, n_kv_heads, head_dim = 4, 2, 20
    n_experts, n_used, expert_ff = 4, 2, 32
    d_ff = 96  # named in the file, used by no tensor

    def build_feed_forward(self, p, layer):
        self.norm(p + "ffn_norm", self.d_model)
        self.build_experts(p)

    def write_keys(self, gguf):
        super().write_keys(gguf)
        self.write_expert_keys(gguf)
        gguf.u32(self.key("expert_feed_forward_length"), self.expert_ff)

    def feed_forward(self, p, layer, x, trace):
        scores = nn.linear(x, self.w[p + "ffn_gate_inp.weight"]).softmax(-1)
        chosen = nn.top_k(scores, self.n_used, trace)
        weights = scores.gather(-1, chosen)
        return self.run_experts(p, x, chosen, weights / weights.sum(-1, keepdim=True))


MODELS = [Qwen3Moe]
