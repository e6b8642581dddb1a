"""gemma3, text part (arXiv 2503.19786): gemma2 with norms on queries and keys in place of the
caps, and five layers of sliding window to one that sees everything (layers 5, 11, ...).

Local layers rotate with base 10000 and no scaling; global ones with rope.freq_base, positions
divided by rope.scaling.factor.
"""

import nn
from arch_gemma2 import Gemma
from golden import f32


class Gemma3(Gemma):
    arch = "gemma3"
    n_layers = 6
    n_heads, n_kv_heads, head_dim = 3, 1, 16
    qk_norm = True
    window = 9
    rope_base = f32(1000000.0)
    local_rope_base = 10000.0
    factor = f32(8.0)

    def is_global(self, layer):
        return layer % 6 == 5

    def write_keys(self, gguf):
        super().write_keys(gguf)
        gguf.u32(self.key("attention.sliding_window"), self.window)
        gguf.string(self.key("rope.scaling.type"), "linear")
        gguf.f32(self.key("rope.scaling.factor"), self.factor)

    def mask(self, n, layer):
        return nn.causal_mask(n) if self.is_global(layer) else nn.window_mask(n, self.window)

    def frequencies(self, layer):
        if self.is_global(layer):
            return nn.rope_frequencies(self.head_dim, self.rope_base) / self.factor
        return nn.rope_frequencies(self.head_dim, self.local_rope_base)


MODELS = [Gemma3]
