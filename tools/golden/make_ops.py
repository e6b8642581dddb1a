#!/usr/bin/python3
"""Writes inputs and outputs of single operations: attention.json and ops.json.

  make_ops.py [--out FOLDER]

Inputs are rounded to float32 first, outputs computed in float64. Arrays are flat, row-major, in
the shapes that the fields beside them give.
"""

import argparse
import pathlib

import numpy as np
import torch

import nn
from golden import f32, write_json

DEFAULT_FOLDER = pathlib.Path(__file__).resolve().parents[2] / "tests" / "data"


class Draw:
    def __init__(self, seed):
        self._rng = np.random.RandomState(seed)

    def normal(self, *shape, scale=1.0, shift=0.0):
        return rounded(torch.from_numpy(self._rng.standard_normal(shape) * scale + shift))


def rounded(x):
    return x.to(torch.float32).to(torch.float64)


def attention_case(name, seed, n_keys, n_heads, n_kv_heads, head_dim, n_queries=None, v_dim=None,
                   window=0, cap=0.0, sinks=False, causal=True, score_scale=1.0):
    """Query row i stands at position n_keys - n_queries + i."""
    draw = Draw(seed)
    n_queries, v_dim = n_queries or n_keys, v_dim or head_dim
    q = draw.normal(n_queries, n_heads, head_dim, scale=score_scale)
    k = draw.normal(n_keys, n_kv_heads, head_dim)
    v = draw.normal(n_keys, n_kv_heads, v_dim)
    sink_logits = draw.normal(n_heads, scale=2.0) if sinks else None
    scale = f32(1.3 * head_dim**-0.5)
    mask = nn.window_mask(n_keys, window) if window else nn.causal_mask(n_keys)
    if not causal:
        mask = mask | True
    out = nn.attention(q, k, v, scale, mask[n_keys - n_queries:], cap or None, sink_logits)
    case = dict(name=name, n_queries=n_queries, n_keys=n_keys, n_heads=n_heads,
                n_kv_heads=n_kv_heads, head_dim=head_dim, v_dim=v_dim, scale=scale, causal=causal,
                window=window, softcap=f32(cap))
    case["sinks"] = sink_logits if sinks else []
    return {**case, "q": q, "k": k, "v": v, "out": out}


def attention_cases():
    return [
        attention_case("one head, causal", 1, 9, 1, 1, 8),
        attention_case("groups of 3", 2, 13, 6, 2, 10),
        attention_case("one key", 3, 1, 3, 1, 16),
        attention_case("window", 4, 17, 4, 2, 6, window=5),
        attention_case("soft cap", 5, 11, 3, 3, 8, cap=1.5, score_scale=3.0),
        attention_case("sinks", 6, 11, 4, 1, 8, sinks=True),
        attention_case("window, soft cap and sinks", 7, 15, 6, 3, 6, window=7, cap=2.0, sinks=True,
                       score_scale=2.0),
        attention_case("decode, 8 queries a KV head", 8, 67, 8, 1, 8, n_queries=1),
        attention_case("decode in a window", 9, 29, 5, 1, 20, n_queries=1, window=11),
        attention_case("chunk after a prefix", 10, 25, 4, 2, 8, n_queries=5),
        attention_case("full mask", 11, 9, 3, 3, 12, causal=False),
        attention_case("values narrower than keys", 12, 9, 3, 3, 12, v_dim=10),
        attention_case("scores of hundreds", 13, 19, 2, 1, 8, n_queries=6, score_scale=120.0),
    ]


def softmax_cases():
    draw = Draw(20)
    rows = {
        "one value": draw.normal(1),
        "seven values": draw.normal(7),
        "all equal": rounded(torch.full((33,), 0.7)),
        "far from zero": draw.normal(100, shift=10000.0),
        "very negative": draw.normal(65, scale=5.0, shift=-3000.0),
        "wide: most of it underflows": draw.normal(257, scale=60.0),
        "long": draw.normal(1025, scale=4.0),
        "one winner": torch.cat([draw.normal(130), rounded(torch.tensor([90.0]))]),
    }
    return [dict(name=name, x=x, out=torch.softmax(x, -1)) for name, x in rows.items()]


def rope_cases():
    base = 10000.0
    kinds = [
        ("norm", "norm", 16, 16, nn.rope_frequencies(16, base), 1.0, {}),
        ("neox", "neox", 16, 16, nn.rope_frequencies(16, base), 1.0, {}),
        ("neox, first half of the head", "neox", 20, 10, nn.rope_frequencies(10, base), 1.0, {}),
        ("norm, first part of the head", "norm", 12, 6, nn.rope_frequencies(6, base), 1.0, {}),
        ("linear", "norm", 12, 12, nn.rope_frequencies(12, base) / 4.0, 1.0,
         dict(scaling="linear", factor=4.0)),
        ("llama3", "norm", 16, 16, nn.rope_frequencies(16, 500000.0)
         / nn.llama3_factors(16, 500000.0, 8.0, 1.0, 4.0, 8192), 1.0,
         dict(scaling="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_context=8192)),
        ("yarn", "neox", 32, 32, nn.yarn_frequencies(32, base, 16.0, 4096),
         nn.yarn_magnitude(16.0), dict(scaling="yarn", factor=16.0, original_context=4096,
                                       beta_fast=32.0, beta_slow=1.0)),
    ]
    positions = [0, 1, 5, 63, 1000]
    cases = []
    for seed, (name, pairing, head_dim, n_rot, frequencies, magnitude, extra) in enumerate(kinds):
        x = Draw(30 + seed).normal(len(positions), 2, head_dim)
        out = nn.rope(x, frequencies, pairing, magnitude,
                      torch.tensor(positions, dtype=torch.float64))
        cases.append(dict(name=name, pairing=pairing, n_heads=2, head_dim=head_dim, n_rot=n_rot,
                          base=500000.0 if name == "llama3" else base, **extra,
                          positions=positions, frequencies=frequencies, magnitude=magnitude, x=x,
                          out=out))
    return cases


def norm_cases():
    cases = []
    shapes = [(3, 7, 0.0, 1e-5), (2, 48, 0.0, 1e-6), (2, 129, 0.5, 1e-3), (1, 1, 0.0, 1e-5),
              (2, 64, 100.0, 1e-5)]
    for seed, (rows, columns, shift, eps) in enumerate(shapes):
        draw = Draw(50 + seed)
        x = draw.normal(rows, columns, scale=1.5, shift=shift)
        weight, bias = draw.normal(columns, scale=0.3, shift=1.0), draw.normal(columns)
        eps = f32(eps)
        cases.append(dict(rows=rows, columns=columns, eps=eps, x=x, weight=weight, bias=bias,
                          rms_norm=nn.rms_norm(x, weight, eps),
                          layer_norm=nn.layer_norm(x, weight, bias, eps)))
    return cases


def activation_case():
    x = rounded(torch.cat([torch.linspace(-14, 14, 113, dtype=torch.float64),
                           torch.tensor([-90.0, -1e-4, 1e-4, 90.0])]))
    up = Draw(60).normal(len(x))
    cap = f32(5.0)
    return dict(x=x, up=up, silu=nn.silu(x), gelu_tanh=nn.gelu_tanh(x), gelu_erf=nn.gelu_erf(x),
                swiglu=nn.silu(x) * up, geglu_tanh=nn.gelu_tanh(x) * up, sigmoid=torch.sigmoid(x),
                softplus=torch.log1p(torch.exp(-x.abs())) + x.clamp(min=0), cap=cap,
                softcap=nn.softcap(x, cap))


def swiglu_case():
    """The whole feed-forward block: weights [rows of outputs, columns of inputs]."""
    draw, d_model, d_ff = Draw(70), 20, 33
    x = draw.normal(3, d_model)
    gate, up = (draw.normal(d_ff, d_model, scale=d_model**-0.5) for _ in range(2))
    down = draw.normal(d_model, d_ff, scale=d_ff**-0.5)
    return dict(n_tokens=3, d_model=d_model, d_ff=d_ff, x=x, gate=gate, up=up, down=down,
                out=nn.swiglu(x, gate, up, down))


def scan_case():
    draw, n, heads, head_dim, d_state, groups = Draw(80), 12, 6, 5, 8, 2
    a = rounded(-torch.logspace(-2, 0.7, heads, dtype=torch.float64))
    x = draw.normal(n, heads, head_dim)
    b, c = draw.normal(n, groups, d_state), draw.normal(n, groups, d_state)
    dt = rounded(nn.silu(draw.normal(n, heads)).abs() + 0.05)
    per_head = [m.repeat_interleave(heads // groups, dim=1) for m in (b, c)]
    y = nn.ssd_scan(a, x, *per_head, dt)
    assert torch.allclose(y, nn.ssd_matrix(a, x, *per_head, dt), rtol=1e-10, atol=1e-10)
    return dict(n_tokens=n, n_heads=heads, head_dim=head_dim, d_state=d_state, n_groups=groups,
                a=a, x=x, b=b, c=c, dt=dt, y=y)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=pathlib.Path, default=DEFAULT_FOLDER)
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "attention.json", {"cases": attention_cases()})
    write_json(folder / "ops.json", {
        "softmax": softmax_cases(), "rope": rope_cases(), "norm": norm_cases(),
        "activations": activation_case(), "swiglu": swiglu_case(), "ssd_scan": scan_case()})


if __name__ == "__main__":
    main()
