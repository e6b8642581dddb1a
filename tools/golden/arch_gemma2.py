"""gemma2 (arXiv 2408.00118): norms before and after each block, capped scores and logits,
a sliding window in the even layers, GELU (tanh form) gates, embeddings scaled by sqrt(d_model).

The published norm multiplies by (1 + weight); a GGUF holds 1 + weight. The published
query_pre_attn_scalar has no key in llama.cpp's files: the score scale is head_dim^-0.5, but
(d_model / n_heads)^-0.5 in the 46-layer model. Variant "scale" gives it as attention.scale.
"""

import nn
from arch_llama import Decoder
from golden import f32


class Gemma(Decoder):
    """What gemma2 and gemma3 share."""

    n_heads, n_kv_heads, head_dim = 4, 2, 16

    def embeddings(self):
        super().embeddings(0.1)  # times sqrt(d_model) as they enter

    def output_head(self):
        super().output_head(norm_mean=3.0)

    def build_attention(self, p):
        super().build_attention(p)
        self.norm(p + "post_attention_norm", self.d_model, mean=1.6)

    def build_feed_forward(self, p, layer):
        super().build_feed_forward(p, layer)
        self.norm(p + "post_ffw_norm", self.d_model, mean=1.6)

    def embed(self, tokens):
        return super().embed(tokens) * self.d_model**0.5

    def feed_forward(self, p, layer, x, trace):
        w = self.w
        gate = nn.gelu_tanh(nn.linear(x, w[p + "ffn_gate.weight"]))
        return nn.linear(gate * nn.linear(x, w[p + "ffn_up.weight"]), w[p + "ffn_down.weight"])

    def layer(self, p, i, x, trace):
        y = self.attend(p, i, self.rms(x, p + "attn_norm"))
        x = x + self.rms(y, p + "post_attention_norm")
        y = self.feed_forward(p, i, self.rms(x, p + "ffn_norm"), trace)
        return x + self.rms(y, p + "post_ffw_norm")


class Gemma2(Gemma):
    arch = "gemma2"
    window = 13
    attention_cap = f32(2.5)  # published: 50 and 30; small here, so that they bite
    final_cap = f32(3.0)

    def write_keys(self, gguf):
        super().write_keys(gguf)
        gguf.f32(self.key("attn_logit_softcapping"), self.attention_cap)
        gguf.f32(self.key("final_logit_softcapping"), self.final_cap)
        gguf.u32(self.key("attention.sliding_window"), self.window)

    def mask(self, n, layer):
        return nn.window_mask(n, self.window) if layer % 2 == 0 else nn.causal_mask(n)

    def attend(self, p, layer, x):
        n, w = len(x), self.w
        q = nn.linear(x, w[p + "attn_q.weight"]).view(n, self.n_heads, self.head_dim)
        k = nn.linear(x, w[p + "attn_k.weight"]).view(n, self.n_kv_heads, self.head_dim)
        v = nn.linear(x, w[p + "attn_v.weight"]).view(n, self.n_kv_heads, self.head_dim)
        y = nn.attention(self.rotate(q, layer), self.rotate(k, layer), v, self.scale(),
                         self.mask(n, layer), cap=self.attention_cap)
        return nn.linear(y, w[p + "attn_output.weight"])

    def forward(self, tokens, trace):
        return nn.softcap(super().forward(tokens, trace), self.final_cap)


class Gemma2Scale(Gemma2):
    variant = "scale"
    f16 = True
    attention_scale = f32((48 / 4) ** -0.5)  # query_pre_attn_scalar = d_model / n_heads

    def write_keys(self, gguf):
        super().write_keys(gguf)
        gguf.f32(self.key("attention.scale"), self.attention_scale)

    def scale(self):
        return self.attention_scale


MODELS = [Gemma2, Gemma2Scale]
