#!/usr/bin/python3
"""Checks that the goldens would notice: every tensor and every hyper-parameter of every model is
changed in turn, and some golden logit (or pooled value) must move by more than LEAST.

Prints the least movement of each model; exits 1 where one is too small to be seen. The key bias
of bert is left out: with no rotation it shifts all scores of a row alike, which softmax forgets.
"""

import sys

import torch

import make_models
from golden import Trace

LEAST = 0.01

# What an engine could get wrong without failing to load: attribute -> the value it would assume.
MISTAKES = {
    "eps": 1e-5, "rope_base": 10000.0, "window": 10**6, "factor": 1.0, "attention_cap": 1e9,
    "final_cap": 1e9, "attention_scale": None, "expert_scale": 1.0, "n_groups_used": 3,
    "mscale_all_dim": 0.0, "local_rope_base": 1000000.0, "original_context": 256, "pooling": None,
    "pairing": None, "early": False, "sigmoid": None, "expert_act": "silu",
}


def results(model, prompts):
    rows = []
    for tokens in prompts:
        out = model.forward(tokens, Trace())
        rows.append(model.pool(out) if hasattr(model, "pool") else out)
    return rows


def movement(model, prompts, reference):
    changed = results(model, prompts)
    return max((a - b).abs().max().item() for a, b in zip(changed, reference))


def mistaken_value(model, name):
    value = getattr(model, name)
    if name == "attention_scale":
        return model.head_dim**-0.5
    if name == "pooling":
        return 3 - value
    if name == "sigmoid":
        return not value
    if name == "pairing":
        return "norm" if value == "neox" else "neox"
    return MISTAKES[name]


def movements(model):
    prompts = [p["tokens"] for p in model.golden_prompts()]
    reference = results(model, prompts)
    for name in MISTAKES:
        if hasattr(model, name):
            value, wrong = getattr(model, name), mistaken_value(model, name)
            if value != wrong:
                setattr(model, name, wrong)
                yield name, movement(model, prompts, reference)
                setattr(model, name, value)
    for name, tensor in model.w.items():
        if model.arch == "bert" and name.endswith("attn_k.bias"):
            continue
        is_norm = name.endswith("norm.weight") or name == "rope_freqs.weight"
        model.w[name] = torch.ones_like(tensor) if is_norm else torch.zeros_like(tensor)
        yield name, movement(model, prompts, reference)
        model.w[name] = tensor


def main():
    failed = False
    for kind in make_models.MODELS:
        model = kind()
        found = sorted(movements(model), key=lambda item: item[1])
        weak = [f"{name} {moved:.1e}" for name, moved in found if not moved > LEAST]
        failed |= bool(weak)
        print(f"{model.file_name}: {len(found)} changes, least {found[0][0]} {found[0][1]:.3f}",
              "  TOO SMALL: " + ", ".join(weak) if weak else "")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
