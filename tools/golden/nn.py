"""The mathematics that the architectures share, in float64, one plain function each.

Shapes: x [n_tokens, d_model]; q [n_tokens, n_heads, head_dim]; k, v [n_tokens, n_kv_heads, ...].
"""

import math

import torch


def rms_norm(x, weight, eps):
    return x / torch.sqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight


def layer_norm(x, weight, bias, eps):
    mean = x.mean(-1, keepdim=True)
    variance = (x - mean).pow(2).mean(-1, keepdim=True)
    return (x - mean) / torch.sqrt(variance + eps) * weight + bias


def linear(x, weight, bias=None):
    y = x @ weight.T
    return y if bias is None else y + bias


def silu(x):
    return x * torch.sigmoid(x)


def relu(x):
    return torch.clamp(x, min=0)


def gelu_tanh(x):
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def gelu_erf(x):
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def softcap(x, cap):
    return cap * torch.tanh(x / cap)


# RoPE. A frequency per pair; "norm" rotates (x[2i], x[2i+1]), "neox" (x[i], x[i + n_rot/2]).


def rope_frequencies(n_rot, base):
    return base ** (-torch.arange(0, n_rot, 2, dtype=torch.float64) / n_rot)


def llama3_factors(n_rot, base, factor, low_freq_factor, high_freq_factor, original_context):
    """Divisors of the frequencies (Llama 3.1): long waves by factor, short by 1, between: blend."""
    factors = []
    for frequency in rope_frequencies(n_rot, base).tolist():
        wavelength = 2 * math.pi / frequency
        if wavelength < original_context / high_freq_factor:
            factors.append(1.0)
        elif wavelength > original_context / low_freq_factor:
            factors.append(factor)
        else:
            smooth = (original_context / wavelength - low_freq_factor) / (
                high_freq_factor - low_freq_factor)
            factors.append(1.0 / ((1 - smooth) / factor + smooth))
    return torch.tensor(factors, dtype=torch.float64)


def yarn_frequencies(n_rot, base, factor, original_context, beta_fast=32.0, beta_slow=1.0):
    """YaRN (arXiv 2309.00071, eq. 17-23): interpolate the slow pairs, keep the fast ones."""
    def dimension(rotations):
        return n_rot * math.log(original_context / (rotations * 2 * math.pi)) / (2 * math.log(base))

    low = max(math.floor(dimension(beta_fast)), 0)
    high = min(math.ceil(dimension(beta_slow)), n_rot - 1)
    ramp = (torch.arange(n_rot // 2, dtype=torch.float64) - low) / max(high - low, 0.001)
    keep = 1 - ramp.clamp(0, 1)
    plain = rope_frequencies(n_rot, base)
    return plain / factor * (1 - keep) + plain * keep


def yarn_magnitude(factor):
    return 0.1 * math.log(factor) + 1.0


def ntk_frequencies(n_rot, base, factor, original_context, n_tokens):
    """Dynamic NTK: a base that grows with the number of tokens past the original context."""
    if n_tokens > original_context:
        base *= (factor * n_tokens / original_context - (factor - 1)) ** (n_rot / (n_rot - 2))
    return rope_frequencies(n_rot, base)


def long_magnitude(factor, original_context):
    """LongRoPE (arXiv 2402.13753): both parts of a pair grow by this."""
    return 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(original_context))


def rope(x, frequencies, pairing, magnitude=1.0, positions=None):
    """Rotates the first 2 * len(frequencies) entries of each head; the rest pass through."""
    half = len(frequencies)
    if positions is None:
        positions = torch.arange(x.shape[0], dtype=torch.float64)
    angle = positions[:, None, None] * frequencies  # [n_tokens, 1, half]
    cos, sin = torch.cos(angle) * magnitude, torch.sin(angle) * magnitude
    y = x.clone()
    if pairing == "norm":
        a, b = x[..., 0:2 * half:2], x[..., 1:2 * half:2]
        y[..., 0:2 * half:2] = a * cos - b * sin
        y[..., 1:2 * half:2] = a * sin + b * cos
    else:
        a, b = x[..., :half], x[..., half:2 * half]
        y[..., :half] = a * cos - b * sin
        y[..., half:2 * half] = a * sin + b * cos
    return y


# Masks: True where row i may see column j.


def causal_mask(n):
    i = torch.arange(n)
    return i[:, None] >= i[None, :]


def window_mask(n, window):
    """Causal, and at most `window` tokens seen, the token itself included."""
    i = torch.arange(n)
    return causal_mask(n) & (i[:, None] - i[None, :] < window)


# What an engine keeps of earlier tokens may be rounded; None keeps everything.
CACHE_TYPE = None


def cached(x):
    return x if CACHE_TYPE is None else x.to(CACHE_TYPE).to(x.dtype)


def attention(q, k, v, scale, mask, cap=None, sinks=None, cache=cached):
    """Dense softmax attention; query head h reads KV head h // (n_heads // n_kv_heads).

    sinks [n_heads]: a logit per head that takes part in the softmax and carries no value.
    Returns [n_tokens, n_heads * v_dim].
    """
    group = q.shape[1] // k.shape[1]
    k, v = cache(k), cache(v)
    k = k.repeat_interleave(group, dim=1)
    v = v.repeat_interleave(group, dim=1)
    scores = torch.einsum("ihd,jhd->hij", q, k) * scale
    if cap is not None:
        scores = softcap(scores, cap)
    scores = scores.masked_fill(~mask, -math.inf)
    if sinks is not None:
        column = sinks[:, None, None].expand(-1, scores.shape[1], 1)
        scores = torch.cat([scores, column], dim=-1)
    weights = torch.softmax(scores, dim=-1)[..., :k.shape[0]]
    return torch.einsum("hij,jhd->ihd", weights, v).reshape(q.shape[0], -1)


def swiglu(x, gate, up, down, act=silu):
    return linear(act(linear(x, gate)) * linear(x, up), down)


def experts(x, chosen, weights, gate, up, down, act=silu):
    """Sum over the chosen experts of weight * swiglu. chosen, weights [n_tokens, k]; gate, up
    [n_experts, d_ff, d_model]; down [n_experts, d_model, d_ff]."""
    rows = []
    for t in range(x.shape[0]):
        parts = [w * swiglu(x[t], gate[e], up[e], down[e], act)
                 for e, w in zip(chosen[t].tolist(), weights[t])]
        rows.append(torch.stack(parts).sum(0))
    return torch.stack(rows)


def top_k(scores, k, trace):
    """The k largest of each row, best first; trace hears by how much the choice was made."""
    ordered, index = torch.sort(scores, dim=-1, descending=True, stable=True)
    if k < scores.shape[-1]:
        gap = ordered[..., k - 1] - ordered[..., k]
        trace.routing_margin = min(trace.routing_margin, gap.min().item())
    return index[..., :k]


# State-space duality (mamba2): a [n_heads] (negative), x [n_tokens, n_heads, head_dim],
# b, c [n_tokens, n_heads, d_state], dt [n_tokens, n_heads].


def ssd_scan(a, x, b, c, dt):
    """The recurrence: state <- exp(dt a) state + dt x b^T; y = state c."""
    state = x.new_zeros(x.shape[1], x.shape[2], b.shape[2])
    rows = []
    for t in range(len(x)):
        decay = torch.exp(dt[t] * a)[:, None, None]
        state = decay * state + (dt[t, :, None] * x[t])[:, :, None] * b[t][:, None, :]
        rows.append(torch.einsum("hps,hs->hp", state, c[t]))
    return torch.stack(rows)


def ssd_matrix(a, x, b, c, dt):
    """The same as one masked matrix product (the dual form): a check on ssd_scan."""
    total = torch.cumsum(dt * a, 0)  # log of the decay since the start
    decay = torch.exp(total[:, None] - total[None, :])  # [to, from, n_heads]
    weights = torch.einsum("ihs,jhs->ijh", c, b) * decay * causal_mask(len(x))[..., None]
    return torch.einsum("ijh,jhp->ihp", weights, dt[..., None] * x)
