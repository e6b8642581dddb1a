"""Writes tests/data/sampling/golden.json: what the sampling filters leave, by python3-torch.

    python3 tools/golden/sampling.py
"""

import itertools
import json
import pathlib

import torch

OUT = pathlib.Path(__file__).resolve().parents[2] / "tests" / "data" / "sampling" / "golden.json"


def keep(logits, mask):
    return torch.where(mask, logits, torch.tensor(-torch.inf, dtype=logits.dtype))


def filtered(logits, p):
    logits = logits.clone()
    for token, bias in p.get("logit_bias", []):
        logits[token] += bias
    history = torch.tensor(p.get("history", []), dtype=torch.long)
    counts = torch.bincount(history, minlength=len(logits)).to(logits.dtype)
    seen = counts > 0
    r = p.get("repetition_penalty", 1.0)
    logits = torch.where(seen, torch.where(logits > 0, logits / r, logits * r), logits)
    logits = logits - p.get("presence_penalty", 0.0) * seen - p.get("frequency_penalty", 0.0) * counts
    if p.get("top_k", 0):
        kept = torch.topk(logits, p["top_k"]).indices
        mask = torch.zeros_like(seen)
        mask[kept] = True
        logits = keep(logits, mask)
    if p.get("typical_p", 1.0) < 1:
        log_p = torch.log_softmax(logits, 0)
        entropy = -torch.nansum(log_p.exp() * log_p)
        order = torch.argsort((-log_p - entropy).abs())
        mass = log_p.exp()[order]
        mask = torch.zeros_like(seen)
        mask[order[(mass.cumsum(0) - mass) < p["typical_p"]]] = True
        logits = keep(logits, mask)
    if p.get("top_p", 1.0) < 1:
        mass, order = torch.softmax(logits, 0).sort(descending=True)
        mask = torch.zeros_like(seen)
        mask[order[(mass.cumsum(0) - mass) < p["top_p"]]] = True
        logits = keep(logits, mask)
    if p.get("min_p", 0.0) > 0:
        mass = torch.softmax(logits, 0)
        logits = keep(logits, mass >= p["min_p"] * mass.max())
    return torch.softmax(logits / p["temperature"], 0)


def main():
    generator = torch.Generator().manual_seed(7)
    cases = []
    options = itertools.product([0, 20], [1.0, 0.6], [1.0, 0.9, 0.3], [0.0, 0.05], [0.7, 1.5])
    for top_k, typical_p, top_p, min_p, temperature in options:
        p = dict(top_k=top_k, typical_p=typical_p, top_p=top_p, min_p=min_p, temperature=temperature)
        if len(cases) % 3 == 1:
            p.update(history=[1, 5, 5, 9, 5, 1, 33], repetition_penalty=1.3, presence_penalty=0.2, frequency_penalty=0.1)
        if len(cases) % 4 == 2:
            p.update(logit_bias=[[3, 2.5], [40, -100.0], [5, -1.0]])
        # Values that f32 and the file both hold exactly.
        logits = (torch.randn(60, generator=generator, dtype=torch.float64) * 2.5 * 1024).round() / 1024
        cases.append({"params": p, "logits": logits.tolist(), "probabilities": filtered(logits, p).tolist()})
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(cases) + "\n")


if __name__ == "__main__":
    main()
