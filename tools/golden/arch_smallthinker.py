"""smallthinker (arXiv 2507.20984): the router sees the residual stream as it enters the layer, before
the norm and the attention; experts gated by a ReLU see the normed stream after it.

The gate is a sigmoid of the chosen logits, or a softmax over them, divided by its sum. Of models with
a sliding window, layers 0, 4, 8, ... see everything and do not rotate; the others rotate and see the
window. Of models without one, all layers rotate and see everything.
"""

import torch

import nn
from arch_llama import Decoder
from arch_mixtral import MixtureWeights


class SmallThinker(MixtureWeights, Decoder):
    arch = "smallthinker"
    tokenizer = ("bpe", "qwen2")
    n_layers = 5
    n_heads, n_kv_heads, head_dim = 4, 2, 12
    n_experts, n_used, expert_ff = 6, 3, 32
    d_ff = 32  # named in the file, used by no tensor
    window = 9
    sigmoid = True
    expert_act = "relu"
    early = True

    def build_feed_forward(self, p, layer):
        self.norm(p + "ffn_norm", self.d_model)
        self.build_experts(p)
        # The stream is not normed: louder, or the gate would weigh all alike.
        self.w[p + "ffn_gate_inp.weight"] *= 2
        self._stored[p + "ffn_gate_inp.weight"] *= 2

    def write_keys(self, gguf):
        super().write_keys(gguf)
        self.write_expert_keys(gguf)
        gguf.u32(self.key("expert_feed_forward_length"), self.expert_ff)
        gguf.u32(self.key("expert_gating_func"), 2 if self.sigmoid else 1)
        if self.window:
            gguf.u32(self.key("attention.sliding_window"), self.window)

    def is_global(self, layer):
        return not self.window or layer % 4 == 0

    def mask(self, n, layer):
        return nn.causal_mask(n) if self.is_global(layer) else nn.window_mask(n, self.window)

    def rotate(self, x, layer):
        return x if self.window and self.is_global(layer) else super().rotate(x, layer)

    def choose(self, p, x, trace):
        logits = nn.linear(x, self.w[p + "ffn_gate_inp.weight"])
        chosen = nn.top_k(logits, self.n_used, trace)
        best = logits.gather(-1, chosen)
        weights = torch.sigmoid(best) if self.sigmoid else best.softmax(-1)
        return chosen, weights / weights.sum(-1, keepdim=True)

    def layer(self, p, i, x, trace):
        router_input = x
        x = x + self.attend(p, i, self.rms(x, p + "attn_norm"))
        y = self.rms(x, p + "ffn_norm")
        chosen, weights = self.choose(p, router_input if self.early else y, trace)
        act = nn.relu if self.expert_act == "relu" else nn.silu
        return x + self.run_experts(p, y, chosen, weights, act)


class Everywhere(SmallThinker):
    """The small one: no window, rotated everywhere. With the other gate."""

    variant = "softmax"
    n_layers = 2
    window = 0
    sigmoid = False


MODELS = [SmallThinker, Everywhere]
