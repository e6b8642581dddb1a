"""mamba2 (arXiv 2405.21060): state-space duality, computed as the plain recurrence.

in_proj gives z (gate), x, B, C and dt per head; a causal depthwise convolution and SiLU pass over
x, B and C; state <- exp(dt A) state + dt x B^T, y = state C + D x; then RMS norm by group of
y * silu(z), and out_proj. Heads share B and C by group. ssm_a holds A = -exp(A_log).
"""

import torch

import nn
from golden import Model


class Mamba2(Model):
    arch = "mamba2"
    tokenizer = ("bpe", "gpt-2")
    d_inner, head_dim, d_state, n_groups, d_conv = 96, 16, 32, 2, 4
    n_heads = d_inner // head_dim
    conv_dim = d_inner + 2 * n_groups * d_state

    def build(self):
        d, heads = self.d_model, self.n_heads
        self.embeddings()
        self.output_head()
        for i in range(self.n_layers):
            p = f"blk.{i}."
            self.norm(p + "attn_norm", d)
            self.matrix(p + "ssm_in.weight", self.d_inner + self.conv_dim + heads, d, 1.2)
            self.matrix(p + "ssm_conv1d.weight", self.conv_dim, self.d_conv, 1.5, keep_f32=True)
            self.vector(p + "ssm_conv1d.bias", self.conv_dim, 0.3)
            self.vector(p + "ssm_dt.bias", heads, 0.7)
            # Decays from slow to fast, so that old tokens still count in some heads.
            self.put(p + "ssm_a", -torch.logspace(-2.5, 0.7, heads).numpy().reshape(heads, 1),
                     keep_f32=True)
            self.put(p + "ssm_d", 1 + 0.5 * self.normal(heads, 1), keep_f32=True)
            self.put(p + "ssm_norm.weight",
                     1 + 0.3 * self.normal(self.n_groups, self.d_inner // self.n_groups),
                     keep_f32=True)
            self.matrix(p + "ssm_out.weight", d, self.d_inner, 1.2)

    def write_keys(self, gguf):
        gguf.u32(self.key("feed_forward_length"), 0)
        gguf.u32(self.key("attention.head_count"), 0)
        gguf.u32(self.key("ssm.conv_kernel"), self.d_conv)
        gguf.u32(self.key("ssm.inner_size"), self.d_inner)
        gguf.u32(self.key("ssm.state_size"), self.d_state)
        gguf.u32(self.key("ssm.time_step_rank"), self.n_heads)
        gguf.u32(self.key("ssm.group_count"), self.n_groups)
        gguf.f32(self.key("attention.layer_norm_rms_epsilon"), self.eps)

    def project(self, p, u):
        """u [n_tokens, d_model] -> gate z, x, B, C per head, dt."""
        w, n = self.w, len(u)
        z, xbc, dt = nn.linear(u, w[p + "ssm_in.weight"]).split(
            [self.d_inner, self.conv_dim, self.n_heads], -1)
        kernel = w[p + "ssm_conv1d.weight"]  # [conv_dim, d_conv]; the last tap is the present
        padded = torch.cat([xbc.new_zeros(self.d_conv - 1, self.conv_dim), xbc])
        conv = sum(padded[j:j + n] * kernel[:, j] for j in range(self.d_conv))
        xbc = nn.silu(conv + w[p + "ssm_conv1d.bias"])
        states = self.n_groups * self.d_state
        x, b, c = xbc.split([self.d_inner, states, states], -1)
        per_group = self.n_heads // self.n_groups
        b, c = (m.view(n, self.n_groups, self.d_state).repeat_interleave(per_group, dim=1)
                for m in (b, c))
        dt = torch.nn.functional.softplus(dt + w[p + "ssm_dt.bias"])
        return z, x.view(n, self.n_heads, self.head_dim), b, c, dt

    def mix(self, p, u):
        w, n = self.w, len(u)
        z, x, b, c, dt = self.project(p, u)
        y = nn.ssd_scan(w[p + "ssm_a"][:, 0], x, b, c, dt) + w[p + "ssm_d"] * x
        y = y.reshape(n, self.d_inner) * nn.silu(z)
        y = y.view(n, self.n_groups, -1)
        y = nn.rms_norm(y, w[p + "ssm_norm.weight"], self.eps).reshape(n, self.d_inner)
        return nn.linear(y, w[p + "ssm_out.weight"])

    def forward(self, tokens, trace):
        w = self.w
        x = trace.embedding = w["token_embd.weight"][tokens]
        trace.layers = []
        for i in range(self.n_layers):
            p = f"blk.{i}."
            x = x + self.mix(p, nn.rms_norm(x, w[p + "attn_norm.weight"], self.eps))
            trace.layers.append(x)
        trace.final_norm = nn.rms_norm(x, w["output_norm.weight"], self.eps)
        return nn.linear(trace.final_norm, self.output_matrix())


MODELS = [Mamba2]
