#!/usr/bin/env python3
"""Write a routing trace: which experts each token of a mixture chooses, layer by layer.

  make_trace.py OUT.routes [--layers 16] [--experts 64] [--top-k 8] [--tokens 1024] [--seed 1] ...

Random weights route without locality, so a random model says nothing about a cache of experts. This
chain routes as published models were measured to (README.md beside this file has the figures and how
near it comes). An expert's score at a layer is the sum of
  - what the topic favours; the topic is a Markov chain that stays for --dwell tokens on average,
  - what the token favours; tokens come from a Zipf distribution and are the same for all layers,
  - what the layer favours always,
  - --stay times a memory of the expert's recent use, which each token multiplies by --decay,
  - Gumbel noise,
and the top_k best are chosen, best first. The format is in src/memory/routing_trace.h. Same
arguments, same file: random numbers come from Python's Mersenne twister, whose sequence is fixed.
"""
import argparse
import bisect
import math
import random

DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def table(rng, *shape, scale):
    if len(shape) == 1:
        return [scale * rng.gauss(0, 1) for _ in range(shape[0])]
    return [table(rng, *shape[1:], scale=scale) for _ in range(shape[0])]


def chain(o):
    """Yields, for each token, a list of the choices of each layer."""
    rng = random.Random(o.seed)
    topics = table(rng, o.layers, o.topics, o.experts, scale=o.topic)
    words = table(rng, o.layers, o.words, o.experts, scale=o.word)
    always = table(rng, o.layers, o.experts, scale=o.favour)
    memory = [[0.0] * o.experts for _ in range(o.layers)]
    total, cumulative = 0.0, []
    for rank in range(1, o.words + 1):
        total += 1 / rank
        cumulative.append(total)
    topic = 0
    for _ in range(o.tokens):
        if rng.random() < 1 / o.dwell:
            topic = rng.randrange(o.topics)
        word = min(bisect.bisect(cumulative, rng.random() * total), o.words - 1)
        token = []
        for layer in range(o.layers):
            scores = [a + b + c + o.stay * m - math.log(-math.log(rng.random() or 0.5))
                      for a, b, c, m in zip(topics[layer][topic], words[layer][word], always[layer], memory[layer])]
            best = sorted(range(o.experts), key=lambda e: -scores[e])[:o.top_k]
            memory[layer] = [o.decay * m for m in memory[layer]]
            for e in best:
                memory[layer][e] += 1 - o.decay
            token.append(best)
        yield token


def digits(expert, experts):
    return DIGITS[expert] if experts <= 64 else DIGITS[expert // 64] + DIGITS[expert % 64]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    for name, kind, default, what in (
            ("layers", int, 16, ""), ("experts", int, 64, "of each layer"), ("top-k", int, 8, "chosen by a token"),
            ("tokens", int, 1024, ""), ("seed", int, 1, ""), ("topics", int, 12, ""), ("words", int, 256, ""),
            ("dwell", float, 120.0, "tokens that a topic stays"), ("topic", float, 1.5, "weight of the topic"),
            ("word", float, 1.2, "weight of the token"), ("favour", float, 0.5, "weight of the layer's own preference"),
            ("stay", float, 1.0, "weight of recent use"), ("decay", float, 0.5, "of the memory of use")):
        parser.add_argument("--" + name, type=kind, default=default, help=f"{what} (default: {default})")
    o = parser.parse_args()
    with open(o.out, "w") as f:
        f.write(f"venturi-routes 1 layers={o.layers} experts={o.experts} top_k={o.top_k}\n")
        for token in chain(o):
            f.write(" ".join("".join(digits(e, o.experts) for e in layer) for layer in token) + "\n")


if __name__ == "__main__":
    main()
