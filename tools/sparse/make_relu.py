#!/usr/bin/python3
"""A llama of a real size whose feed-forward has a ReLU, with random weights and a set activity.

  make_relu.py OUT.gguf [--active 0.1] [--spread 0] [--type q4_0] [--dim 4096] [--ff 11008] [--layers 16] …

The gate of a random model is normal with a deviation of about one, so a bias of neuron j makes it active in a
share of tokens that is known: Phi(bias). --active is the mean share, --spread the deviation of the biases:
0 makes all neurons alike, which no cache likes; 1 lets a part of them do most of the work, as in trained
models. What the tokens say does not matter. Needs Debian's python3-numpy. Same arguments, same file.
"""

import argparse
import math
import os
import struct
import sys

import numpy as np

U32, F32, STRING, ARRAY = 4, 6, 8, 9
TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q8_0": 8}
ALIGN = 32


def string(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def key(name, kind, body):
    return string(name) + struct.pack("<I", kind) + body


def tokenizer(n):
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{i:02X}>" for i in range(256)]
    tokens += [f"t{i}" for i in range(n - len(tokens))]
    kinds = [2, 3, 3] + [6] * 256 + [1] * (n - 259)
    return [key("tokenizer.ggml.model", STRING, string("llama")),
            key("tokenizer.ggml.tokens", ARRAY, struct.pack("<IQ", STRING, n) + b"".join(map(string, tokens))),
            key("tokenizer.ggml.scores", ARRAY, struct.pack("<IQ", F32, n) + np.zeros(n, "<f4").tobytes()),
            key("tokenizer.ggml.token_type", ARRAY, struct.pack("<IQ", 5, n) + np.array(kinds, "<i4").tobytes()),
            key("tokenizer.ggml.bos_token_id", U32, struct.pack("<I", 1)),
            key("tokenizer.ggml.eos_token_id", U32, struct.pack("<I", 2))]


def encoded_bytes(kind, n):
    return {"f32": 4 * n, "f16": 2 * n, "q8_0": n // 32 * 34, "q4_0": n // 32 * 18}[kind]


def encode(kind, values):
    if kind == "f32":
        return values.astype("<f4").tobytes()
    if kind == "f16":
        return values.astype("<f2").tobytes()
    blocks = values.reshape(-1, 32)
    top = blocks[np.arange(len(blocks)), np.abs(blocks).argmax(1)]
    if kind == "q8_0":
        scale = (np.abs(top) / 127).astype("<f2")
        codes = np.rint(blocks / scale.astype("f4")[:, None]).clip(-127, 127).astype("i1").view("u1")
    else:
        scale = (top / -8).astype("<f2")
        codes = np.floor(blocks / scale.astype("f4")[:, None] + 8.5).clip(0, 15).astype("u1")
        codes = codes[:, :16] | (codes[:, 16:] << 4)
    return np.concatenate([scale.view("u1").reshape(-1, 2), codes], 1).tobytes()


def phi(x):
    return 0.5 * (1 + math.erf(x / math.sqrt(2)))


def biases(rng, n, active, spread):
    """Phi(bias) is `active` on average: of b + noise, whose deviations add."""
    low, high = -10.0, 10.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if phi(middle) < active else (low, middle)
    return low * math.sqrt(1 + spread**2) + spread * rng.standard_normal(n, dtype="f4")


def hot_share(values):
    """The share of the neurons that does 80 % of the work."""
    work = np.sort([phi(v) for v in values])[::-1].cumsum()
    return np.searchsorted(work, 0.8 * work[-1]) / len(work)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--active", type=float, default=0.1)
    parser.add_argument("--spread", type=float, default=0.0)
    parser.add_argument("--type", choices=TYPES, default="q4_0")
    for name, default in (("dim", 4096), ("ff", 11008), ("layers", 16), ("heads", 32), ("kv-heads", 32),
                          ("vocab", 32000), ("context", 4096), ("seed", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    a = parser.parse_args()
    head_dim = a.dim // a.heads
    keys = [key("general.architecture", STRING, string("llama")), key("general.name", STRING, string("relu-random")),
            key("llama.hidden_activation", STRING, string("relu")),
            key("llama.attention.layer_norm_rms_epsilon", F32, struct.pack("<f", 1e-5)),
            key("llama.rope.freq_base", F32, struct.pack("<f", 1e4))]
    for name, value in (("context_length", a.context), ("embedding_length", a.dim), ("block_count", a.layers),
                        ("feed_forward_length", a.ff), ("attention.head_count", a.heads),
                        ("attention.head_count_kv", a.kv_heads), ("rope.dimension_count", head_dim)):
        keys.append(key("llama." + name, U32, struct.pack("<I", value)))
    keys += tokenizer(a.vocab)
    tensors = [("token_embd.weight", (a.dim, a.vocab), a.type), ("output_norm.weight", (a.dim,), "f32"),
               ("output.weight", (a.dim, a.vocab), a.type)]
    for i in range(a.layers):
        b = f"blk.{i}."
        tensors += [(b + "attn_norm.weight", (a.dim,), "f32"), (b + "attn_q.weight", (a.dim, a.dim), a.type),
                    (b + "attn_k.weight", (a.dim, a.kv_heads * head_dim), a.type),
                    (b + "attn_v.weight", (a.dim, a.kv_heads * head_dim), a.type),
                    (b + "attn_output.weight", (a.dim, a.dim), a.type), (b + "ffn_norm.weight", (a.dim,), "f32"),
                    (b + "ffn_gate.weight", (a.dim, a.ff), a.type), (b + "ffn_gate.bias", (a.ff,), "f32"),
                    (b + "ffn_up.weight", (a.dim, a.ff), a.type), (b + "ffn_down.weight", (a.ff, a.dim), a.type)]
    infos, offset = b"", 0
    for name, dims, kind in tensors:
        infos += string(name) + struct.pack("<I", len(dims)) + struct.pack(f"<{len(dims)}Q", *dims)
        infos += struct.pack("<IQ", TYPES[kind], offset)
        offset += -(-encoded_bytes(kind, math.prod(dims)) // ALIGN) * ALIGN
    head = struct.pack("<IIQQ", 0x46554747, 3, len(tensors), len(keys)) + b"".join(keys) + infos
    head += b"\0" * (-len(head) % ALIGN)
    rng = np.random.default_rng(a.seed)
    noise = {}  # of matrices; layers share it, but for their biases
    with open(a.out, "wb") as out:
        out.write(head)
        for name, dims, kind in tensors:
            if name.endswith(".bias"):
                data = encode(kind, biases(rng, dims[0], a.active, a.spread))
            elif len(dims) == 1:
                data = encode(kind, np.ones(dims[0], "f4"))
            else:
                what = (name.split(".", 2)[-1], dims)
                if what not in noise:
                    deviation = np.float32(dims[0] ** -0.5)
                    rows = 1 << 10
                    noise[what] = b"".join(
                        encode(kind, (rng.standard_normal((min(rows, dims[1] - r), dims[0]), dtype="f4") * deviation).ravel())
                        for r in range(0, dims[1], rows))
                data = noise[what]
            out.write(data)
            out.write(b"\0" * (-len(data) % ALIGN))
    shares = biases(np.random.default_rng(a.seed), a.ff, a.active, a.spread)
    print(f"{a.out}: {os.path.getsize(a.out) / 1e9:.2f} GB; {100 * np.mean([phi(v) for v in shares]):.1f} % of neurons active, "
          f"{100 * hot_share(shares):.0f} % of them do 80 % of the work", file=sys.stderr)


if __name__ == "__main__":
    main()
