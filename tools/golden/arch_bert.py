"""bert (arXiv 1810.04805): an encoder. Norms after each block, learned positions, token types,
every token sees every token, GELU in its exact (erf) form; the result is one pooled vector."""

import nn
import vocab
from golden import Model, Trace, f32, with_f16_cache


class Bert(Model):
    arch = "bert"
    variant = "plain"
    tokenizer = ("wpm",)
    vocab_size = vocab.WPM_SIZE
    n_heads, head_dim = 3, 16
    d_ff = 96
    eps = f32(0.02)
    context_length = 64
    pooling = 1  # 1 mean, 2 first token ([CLS])
    gelu = staticmethod(nn.gelu_erf)

    def build(self):
        d = self.d_model
        self.embeddings()
        self.put("position_embd.weight", 0.4 * self.normal(self.context_length, d), keep_f32=True)
        self.put("token_types.weight", 0.4 * self.normal(2, d), keep_f32=True)
        self.norm("token_embd_norm", d, bias=True)
        for i in range(self.n_layers):
            p = f"blk.{i}."
            for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
                self.matrix(p + name + ".weight", d, d, 1.3)
                self.vector(p + name + ".bias", d, 0.3)
            self.norm(p + "attn_output_norm", d, bias=True)
            self.matrix(p + "ffn_up.weight", self.d_ff, d, 1.5)
            self.vector(p + "ffn_up.bias", self.d_ff, 0.3)
            self.matrix(p + "ffn_down.weight", d, self.d_ff, 1.5)
            self.vector(p + "ffn_down.bias", d, 0.3)
            self.norm(p + "layer_output_norm", d, bias=True)

    def write_keys(self, gguf):
        gguf.u32(self.key("feed_forward_length"), self.d_ff)
        gguf.u32(self.key("attention.head_count"), self.n_heads)
        gguf.f32(self.key("attention.layer_norm_epsilon"), self.eps)
        gguf.boolean(self.key("attention.causal"), False)
        gguf.u32(self.key("pooling_type"), self.pooling)

    def forward(self, tokens, trace):
        """The last hidden rows [n_tokens, d_model]; every token is of type 0."""
        w, n = self.w, len(tokens)

        def norm(x, name):
            return nn.layer_norm(x, w[name + ".weight"], w[name + ".bias"], self.eps)

        def linear(x, name):
            return nn.linear(x, w[name + ".weight"], w[name + ".bias"])

        x = w["token_embd.weight"][tokens] + w["position_embd.weight"][:n]
        x = trace.embedding = norm(x + w["token_types.weight"][0], "token_embd_norm")
        trace.layers = []
        full = nn.causal_mask(n) | True
        for i in range(self.n_layers):
            p = f"blk.{i}."
            q, k, v = (linear(x, p + name).view(n, self.n_heads, self.head_dim)
                       for name in ("attn_q", "attn_k", "attn_v"))
            y = nn.attention(q, k, v, self.head_dim**-0.5, full)
            x = norm(x + linear(y, p + "attn_output"), p + "attn_output_norm")
            y = linear(self.gelu(linear(x, p + "ffn_up")), p + "ffn_down")
            x = norm(x + y, p + "layer_output_norm")
            trace.layers.append(x)
        return x

    def pool(self, rows):
        return rows[0] if self.pooling == 2 else rows.mean(0)

    def _golden_prompt(self, rng, length, positions):
        tokens = [2] + self.draw_prompt(rng, length - 2) + [3]  # [CLS] ... [SEP]
        trace = Trace()
        rows = self.forward(tokens, trace)
        pooled = self.pool(rows)
        return {
            "tokens": tokens,
            "hidden": {
                "position": length - 1,
                "embedding": trace.embedding[-1],
                "layers": [layer[-1] for layer in trace.layers],
            },
            "pooling": {1: "mean", 2: "cls"}[self.pooling],
            "pooled": pooled,
            "pooled_f16_cache": with_f16_cache(lambda: self.pool(self.forward(tokens, Trace()))),
            "pooled_unit_length": pooled / pooled.norm(),
        }


class BertMean(Bert):
    variant = "mean"


class BertCls(Bert):
    variant = "cls"
    d_ff = 32
    pooling = 2


MODELS = [BertMean, BertCls]
