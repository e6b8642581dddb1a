"""llama (arXiv 2302.13971): pre-norm, RoPE on neighbouring pairs, grouped queries, SwiGLU.

Variants: the rope scalings, attention biases, and Mistral's sliding window (arXiv 2310.06825).
Decoder is also the frame of the other pre-norm architectures here.
"""

import numpy as np

import nn
from golden import Model, f32


class Decoder(Model):
    """token_embd, layers of attention and feed-forward behind RMS norms, output_norm, output."""

    n_heads = 3
    n_kv_heads = 1
    head_dim = 16
    d_ff = 32
    rope_base = f32(10000.0)
    pairing = "neox"
    qkv_bias = False
    output_bias = False
    qk_norm = False

    def build(self):
        self.embeddings()
        self.output_head()
        for i in range(self.n_layers):
            self.build_attention(f"blk.{i}.")
            self.build_feed_forward(f"blk.{i}.", i)

    def build_attention(self, p):
        d, q_rows, kv_rows = (self.d_model, self.n_heads * self.head_dim,
                              self.n_kv_heads * self.head_dim)
        self.norm(p + "attn_norm", d)
        self.matrix(p + "attn_q.weight", q_rows, d, 1.4)
        self.matrix(p + "attn_k.weight", kv_rows, d, 1.4)
        self.matrix(p + "attn_v.weight", kv_rows, d)
        self.matrix(p + "attn_output.weight", d, q_rows)
        if self.qkv_bias:
            self.vector(p + "attn_q.bias", q_rows, 0.5)
            self.vector(p + "attn_k.bias", kv_rows, 0.5)
            self.vector(p + "attn_v.bias", kv_rows, 0.5)
        if self.output_bias:
            self.vector(p + "attn_output.bias", d, 0.3)
        if self.qk_norm:
            self.norm(p + "attn_q_norm", self.head_dim)
            self.norm(p + "attn_k_norm", self.head_dim)

    def build_feed_forward(self, p, layer):
        self.norm(p + "ffn_norm", self.d_model)
        self.matrix(p + "ffn_gate.weight", self.d_ff, self.d_model, 1.5)
        self.matrix(p + "ffn_up.weight", self.d_ff, self.d_model)
        self.matrix(p + "ffn_down.weight", self.d_model, self.d_ff)

    def write_keys(self, gguf):
        gguf.u32(self.key("feed_forward_length"), self.d_ff)
        gguf.u32(self.key("attention.head_count"), self.n_heads)
        gguf.u32(self.key("attention.head_count_kv"), self.n_kv_heads)
        gguf.u32(self.key("attention.key_length"), self.head_dim)
        gguf.u32(self.key("attention.value_length"), self.head_dim)
        gguf.f32(self.key("attention.layer_norm_rms_epsilon"), self.eps)
        gguf.u32(self.key("rope.dimension_count"), self.head_dim)
        gguf.f32(self.key("rope.freq_base"), self.rope_base)

    # The forward pass, in steps that an architecture may replace.

    def frequencies(self, layer):
        return nn.rope_frequencies(self.head_dim, self.rope_base)

    def magnitude(self):
        return 1.0

    def mask(self, n, layer):
        return nn.causal_mask(n)

    def scale(self):
        return self.head_dim**-0.5

    def rotate(self, x, layer):
        return nn.rope(x, self.frequencies(layer), self.pairing, self.magnitude())

    def attend(self, p, layer, x):
        n, w = len(x), self.w
        q = nn.linear(x, w[p + "attn_q.weight"], w.get(p + "attn_q.bias"))
        k = nn.linear(x, w[p + "attn_k.weight"], w.get(p + "attn_k.bias"))
        v = nn.linear(x, w[p + "attn_v.weight"], w.get(p + "attn_v.bias"))
        q = q.view(n, self.n_heads, self.head_dim)
        k = k.view(n, self.n_kv_heads, self.head_dim)
        v = v.view(n, self.n_kv_heads, self.head_dim)
        if self.qk_norm:
            q = nn.rms_norm(q, w[p + "attn_q_norm.weight"], self.eps)
            k = nn.rms_norm(k, w[p + "attn_k_norm.weight"], self.eps)
        y = nn.attention(self.rotate(q, layer), self.rotate(k, layer), v, self.scale(),
                         self.mask(n, layer))
        return nn.linear(y, w[p + "attn_output.weight"], w.get(p + "attn_output.bias"))

    def feed_forward(self, p, layer, x, trace):
        w = self.w
        return nn.swiglu(x, w[p + "ffn_gate.weight"], w[p + "ffn_up.weight"],
                         w[p + "ffn_down.weight"])

    def rms(self, x, name):
        return nn.rms_norm(x, self.w[name + ".weight"], self.eps)

    def layer(self, p, i, x, trace):
        x = x + self.attend(p, i, self.rms(x, p + "attn_norm"))
        return x + self.feed_forward(p, i, self.rms(x, p + "ffn_norm"), trace)

    def embed(self, tokens):
        return self.w["token_embd.weight"][tokens]

    def forward(self, tokens, trace):
        x = trace.embedding = self.embed(tokens)
        trace.layers = []
        for i in range(self.n_layers):
            x = self.layer(f"blk.{i}.", i, x, trace)
            trace.layers.append(x)
        trace.final_norm = self.rms(x, "output_norm")
        return nn.linear(trace.final_norm, self.output_matrix())


class Llama(Decoder):
    arch = "llama"
    pairing = "norm"


class Plain(Llama):
    variant = "plain"
    d_model = 64
    n_heads, n_kv_heads, d_ff = 6, 2, 32  # 6 heads of 16 are not d_model
    tied = False


class PlainF16(Plain):
    f16 = True


class Llama3Rope(Llama):
    """rope_freqs.weight holds Llama 3.1's divisors of the frequencies."""

    variant = "rope-llama3"
    rope_base = f32(500000.0)
    rope_scaling = dict(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_context=96)

    def build(self):
        super().build()
        self.put("rope_freqs.weight",
                 nn.llama3_factors(self.head_dim, self.rope_base, **self.rope_scaling))

    def frequencies(self, layer):
        return nn.rope_frequencies(self.head_dim, self.rope_base) / self.w["rope_freqs.weight"]


class LinearRope(Llama):
    variant = "rope-linear"
    factor = f32(2.5)

    def write_keys(self, gguf):
        super().write_keys(gguf)
        gguf.string(self.key("rope.scaling.type"), "linear")
        gguf.f32(self.key("rope.scaling.factor"), self.factor)

    def frequencies(self, layer):
        return super().frequencies(layer) / self.factor


class YarnRope(Llama):
    variant = "rope-yarn"
    factor = f32(4.0)
    original_context = 64
    context_length = 256

    def write_keys(self, gguf):
        super().write_keys(gguf)
        gguf.string(self.key("rope.scaling.type"), "yarn")
        gguf.f32(self.key("rope.scaling.factor"), self.factor)
        gguf.u32(self.key("rope.scaling.original_context_length"), self.original_context)

    def frequencies(self, layer):
        return nn.yarn_frequencies(self.head_dim, self.rope_base, self.factor,
                                   self.original_context)

    def magnitude(self):
        return nn.yarn_magnitude(self.factor)


class DynamicRope(Llama):
    """NTK, its base for the 64 tokens of context that the tests open every model with."""

    variant = "rope-dynamic"
    factor = f32(3.0)
    original_context = 32
    opened_context = 64

    def write_keys(self, gguf):
        super().write_keys(gguf)
        gguf.string(self.key("rope.scaling.type"), "dynamic")
        gguf.f32(self.key("rope.scaling.factor"), self.factor)
        gguf.u32(self.key("rope.scaling.original_context_length"), self.original_context)

    def frequencies(self, layer):
        return nn.ntk_frequencies(self.head_dim, self.rope_base, self.factor,
                                  self.original_context, self.opened_context)


class LongRope(Llama):
    """LongRoPE, past the original context: the long factors hold."""

    variant = "rope-long"
    context_length = 256
    original_context = 32
    factors = "rope_factors_long.weight"

    def build(self):
        super().build()
        half = self.head_dim // 2
        self.put("rope_factors_short.weight", 1 + 0.1 * np.arange(half))
        self.put("rope_factors_long.weight", 1.05 * 1.6 ** np.arange(half))

    def write_keys(self, gguf):
        super().write_keys(gguf)
        gguf.string(self.key("rope.scaling.type"), "longrope")
        gguf.u32(self.key("rope.scaling.original_context_length"), self.original_context)
        gguf.f32(self.key("rope.scaling.attn_factor"), self.magnitude())

    def frequencies(self, layer):
        return super().frequencies(layer) / self.w[self.factors]

    def magnitude(self):
        return f32(nn.long_magnitude(self.context_length / self.original_context,
                                     self.original_context))


class LongRopeShort(LongRope):
    """The same scaling in a context that is no longer than the original."""

    variant = "rope-long-short"
    original_context = 64
    factors = "rope_factors_short.weight"


class Relu(Llama):
    """A ReLU in the feed-forward, zero for most neurons (arXiv 2310.04564)."""

    variant = "relu"
    d_model = 64
    d_ff = 192
    activation = "relu"

    def build_feed_forward(self, p, layer):
        super().build_feed_forward(p, layer)
        self.put(p + "ffn_gate.bias", -2 + 0.5 * self.normal(self.d_ff))
        self.vector(p + "ffn_up.bias", self.d_ff, 0.3)
        self.vector(p + "ffn_down.bias", self.d_model, 0.2)

    def write_keys(self, gguf):
        super().write_keys(gguf)
        gguf.string(self.key("hidden_activation"), self.activation)

    def act(self, x):
        return nn.relu(x)

    def feed_forward(self, p, layer, x, trace):
        w = self.w
        gate = nn.linear(x, w[p + "ffn_gate.weight"], w[p + "ffn_gate.bias"])
        up = nn.linear(x, w[p + "ffn_up.weight"], w[p + "ffn_up.bias"])
        return nn.linear(self.act(gate) * up, w[p + "ffn_down.weight"], w[p + "ffn_down.bias"])


class Relu2(Relu):
    """Its square (arXiv 2109.08668)."""

    variant = "relu2"
    f16 = True
    activation = "relu2"

    def act(self, x):
        return nn.relu(x) ** 2


class Bias(Llama):
    variant = "bias"
    n_heads, n_kv_heads, head_dim = 4, 4, 12
    qkv_bias = True
    output_bias = True


class Window(Llama):
    """Mistral: every layer sees a window."""

    variant = "window"
    window = 11

    def write_keys(self, gguf):
        super().write_keys(gguf)
        gguf.u32(self.key("attention.sliding_window"), self.window)

    def mask(self, n, layer):
        return nn.window_mask(n, self.window)


MODELS = [Plain, PlainF16, Llama3Rope, LinearRope, YarnRope, DynamicRope, LongRope, LongRopeShort,
          Relu, Relu2, Bias, Window]
