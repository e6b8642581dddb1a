#!/usr/bin/env python3
"""Write a mixture with random Q4_0 weights in the shape of a routing trace, to be run by that trace.

  make_mixture.py TRACE.routes OUT.gguf [--d-model 2048] [--d-ff 1024] [--heads 16] [--vocab 32000] [--seed 1]

Layers, experts and how many a token uses are the trace's; with the committed trace and the defaults the file
is of OLMoE's shape, 3.9 GB. Speed and bytes read do not depend on what the weights say: rows repeat within a
matrix and layers share theirs. No tokenizer: `venturi bench` needs none. Same arguments, same file.
"""
import argparse
import random
import re
import struct

Q4_0, F32 = 2, 0
ALIGNMENT = 32
UINT32, FLOAT32, STRING = 4, 6, 8


def string(text):
    return struct.pack("<Q", len(text)) + text.encode()


def key(name, kind, value):
    body = string(value) if kind == STRING else struct.pack("<I" if kind == UINT32 else "<f", value)
    return string(name if name.startswith("general.") else "llama." + name) + struct.pack("<I", kind) + body


def n_bytes(dims, kind):
    n = 1
    for d in dims:
        n *= d
    return n * 4 if kind == F32 else n // 32 * 18


def random_q4_0(rng, dims):
    """Half bytes uniform in -8 … 7, scaled to a variance of 1 / n_in."""
    scale = struct.pack("<e", dims[0] ** -0.5 / 4.6)
    run = b"".join(scale + rng.randbytes(16) for _ in range(1 << 16))
    size = n_bytes(dims, Q4_0)
    return run * (size // len(run)) + run[:size % len(run)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trace")
    parser.add_argument("out")
    for name, value in (("d-model", 2048), ("d-ff", 1024), ("heads", 16), ("vocab", 32000), ("seed", 1)):
        parser.add_argument("--" + name, type=int, default=value)
    o = parser.parse_args()
    with open(o.trace) as file:
        head = re.match(r"venturi-routes 1 layers=(\d+) experts=(\d+) top_k=(\d+)$", file.readline().strip())
    layers, experts, top_k = map(int, head.groups())
    d, ff = o.d_model, o.d_ff
    keys = [key("general.architecture", STRING, "llama"), key("general.name", STRING, "random mixture"),
            key("context_length", UINT32, 4096), key("embedding_length", UINT32, d), key("block_count", UINT32, layers),
            key("feed_forward_length", UINT32, ff), key("attention.head_count", UINT32, o.heads),
            key("attention.head_count_kv", UINT32, o.heads), key("rope.dimension_count", UINT32, d // o.heads),
            key("vocab_size", UINT32, o.vocab), key("expert_count", UINT32, experts),
            key("expert_used_count", UINT32, top_k), key("attention.layer_norm_rms_epsilon", FLOAT32, 1e-5)]
    tensors = [("token_embd.weight", (d, o.vocab), Q4_0), ("output_norm.weight", (d,), F32), ("output.weight", (d, o.vocab), Q4_0)]
    for i in range(layers):
        tensors += [(f"blk.{i}.{name}.weight", dims, kind) for name, dims, kind in (
            ("attn_norm", (d,), F32), ("attn_q", (d, d), Q4_0), ("attn_k", (d, d), Q4_0), ("attn_v", (d, d), Q4_0),
            ("attn_output", (d, d), Q4_0), ("ffn_norm", (d,), F32), ("ffn_gate_inp", (d, experts), Q4_0),
            ("ffn_gate_exps", (d, ff, experts), Q4_0), ("ffn_up_exps", (d, ff, experts), Q4_0),
            ("ffn_down_exps", (ff, d, experts), Q4_0))]
    infos, offset = b"", 0
    for name, dims, kind in tensors:
        infos += string(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)
        offset += -(-n_bytes(dims, kind) // ALIGNMENT) * ALIGNMENT
    header = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(keys)) + b"".join(keys) + infos
    rng, made = random.Random(o.seed), {}
    with open(o.out, "wb") as file:
        file.write(header + bytes(-len(header) % ALIGNMENT))
        for _, dims, kind in tensors:
            if (dims, kind) not in made:
                made[dims, kind] = random_q4_0(rng, dims) if kind == Q4_0 else struct.pack("<f", 1.0) * dims[0]
            data = made[dims, kind]
            file.write(data + bytes(-len(data) % ALIGNMENT))


if __name__ == "__main__":
    main()
