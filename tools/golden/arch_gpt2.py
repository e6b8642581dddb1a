"""gpt2: LayerNorm with bias, learned positions, one fused matrix for queries, keys and values,
GELU in its tanh form. The published Conv1D weights are stored transposed, as rows of outputs."""

import nn
from golden import Model


class Gpt2(Model):
    arch = "gpt2"
    tokenizer = ("bpe", "gpt-2")
    n_heads, head_dim = 3, 16
    d_ff = 64
    context_length = 64

    def build(self):
        d = self.d_model
        self.embeddings()
        self.put("position_embd.weight", 0.4 * self.normal(self.context_length, d), keep_f32=True)
        for i in range(self.n_layers):
            p = f"blk.{i}."
            self.norm(p + "attn_norm", d, bias=True)
            self.matrix(p + "attn_qkv.weight", 3 * d, d, 1.3)
            self.vector(p + "attn_qkv.bias", 3 * d, 0.4)
            self.matrix(p + "attn_output.weight", d, d)
            self.vector(p + "attn_output.bias", d, 0.3)
            self.norm(p + "ffn_norm", d, bias=True)
            self.matrix(p + "ffn_up.weight", self.d_ff, d, 1.5)
            self.vector(p + "ffn_up.bias", self.d_ff, 0.3)
            self.matrix(p + "ffn_down.weight", d, self.d_ff, 1.5)
            self.vector(p + "ffn_down.bias", d, 0.3)
        self.output_head(bias=True)

    def write_keys(self, gguf):
        gguf.u32(self.key("feed_forward_length"), self.d_ff)
        gguf.u32(self.key("attention.head_count"), self.n_heads)
        gguf.f32(self.key("attention.layer_norm_epsilon"), self.eps)

    def act(self, x):
        return nn.gelu_tanh(x)

    def forward(self, tokens, trace):
        w, n, d = self.w, len(tokens), self.d_model

        def norm(x, name):
            return nn.layer_norm(x, w[name + ".weight"], w[name + ".bias"], self.eps)

        def linear(x, name):
            return nn.linear(x, w[name + ".weight"], w[name + ".bias"])

        x = trace.embedding = w["token_embd.weight"][tokens] + w["position_embd.weight"][:n]
        trace.layers = []
        for i in range(self.n_layers):
            p = f"blk.{i}."
            qkv = linear(norm(x, p + "attn_norm"), p + "attn_qkv")
            q, k, v = (part.reshape(n, self.n_heads, self.head_dim) for part in qkv.split(d, -1))
            y = nn.attention(q, k, v, self.head_dim**-0.5, nn.causal_mask(n))
            x = x + linear(y, p + "attn_output")
            y = self.act(linear(norm(x, p + "ffn_norm"), p + "ffn_up"))
            x = x + linear(y, p + "ffn_down")
            trace.layers.append(x)
        trace.final_norm = norm(x, "output_norm")
        return nn.linear(trace.final_norm, self.output_matrix())


class Relu(Gpt2):
    """A ReLU and no gate, as OPT has it (arXiv 2205.01068)."""

    variant = "relu"
    d_ff = 160

    def write_keys(self, gguf):
        super().write_keys(gguf)
        gguf.string(self.key("hidden_activation"), "relu")

    def act(self, x):
        return nn.relu(x)


MODELS = [Gpt2, Relu]
