"""What every generator shares: random weights, hyper-parameters, prompts, and the two files.

An architecture is a class derived from Model: hyper-parameters in __init__, weights in build(),
GGUF keys in write_keys(), and the published forward pass in forward(). Weights are drawn in
float32 and computed with in float64, so a golden value is exact for the numbers in the file.
"""

import json
import zlib

import numpy as np
import torch

import nn
import vocab
from gguf_writer import GgufWriter

torch.set_num_threads(1)  # one order of summation

GREEDY_TOKENS = 16
# A prompt is taken only where no choice hangs on rounding: the best logit leads by this much at
# every greedy step, and the last expert chosen leads the first one left out by this much.
GREEDY_MARGIN = 0.03
ROUTING_MARGIN = 0.0015


def f32(value):
    """The value that a float32 key holds."""
    return float(np.float32(value))


class Trace:
    """What a forward pass leaves besides logits: rows [n_tokens, d_model] of each stage."""

    def __init__(self):
        self.embedding = None  # what enters the first layer
        self.layers = []  # the residual stream after each layer
        self.final_norm = None  # what the output matrix multiplies
        self.routing_margin = float("inf")


class Model:
    arch = None
    variant = "plain"
    seed = 0
    f16 = False  # matrices stored as F16
    tokenizer = ("spm",)
    n_layers = 2
    d_model = 48
    vocab_size = vocab.VOCAB_SIZE
    context_length = 128
    eps = f32(1e-3)  # large, so that a wrong epsilon shows
    tied = True

    def __init__(self):
        self.w = {}  # name -> float64 tensor, exactly what the file holds
        self._stored = {}
        name = f"{self.arch}-{self.seed_name()}"
        self._rng = np.random.RandomState(zlib.crc32(name.encode()))
        self.build()

    def seed_name(self):
        return self.variant

    @property
    def file_name(self):
        return f"{self.arch}-{self.variant}" + ("-f16" if self.f16 else "")

    # Weights.

    def put(self, name, values, keep_f32=False):
        array = np.asarray(values, dtype=np.float32)
        if self.f16 and array.ndim > 1 and not keep_f32:
            array = array.astype(np.float16)
        assert name not in self._stored, name
        self._stored[name] = array
        self.w[name] = torch.from_numpy(array.astype(np.float64))

    def normal(self, *shape):
        return self._rng.standard_normal(shape)

    def matrix(self, name, rows, columns, gain=1.0, experts=None, keep_f32=False):
        """A matrix whose product with a unit-variance row has standard deviation gain."""
        shape = (rows, columns) if experts is None else (experts, rows, columns)
        self.put(name, self.normal(*shape) * gain / columns**0.5, keep_f32)

    def norm(self, name, n, bias=False, mean=1.0):
        self.put(name + ".weight", mean * (1 + 0.3 * self.normal(n)))
        if bias:
            self.vector(name + ".bias", n, 0.2)

    def vector(self, name, n, scale):
        self.put(name, scale * self.normal(n))

    def embeddings(self, scale=None):
        # Tied: small beside what the layers add, or every token would predict itself.
        scale = scale or (0.25 if self.tied else 0.6)
        self.put("token_embd.weight", scale * self.normal(self.vocab_size, self.d_model))

    def output_head(self, gain=1.6, bias=False, norm_mean=1.0):
        self.norm("output_norm", self.d_model, bias, norm_mean)
        if not self.tied:
            self.matrix("output.weight", self.vocab_size, self.d_model, gain)

    def output_matrix(self):
        return self.w["token_embd.weight" if self.tied else "output.weight"]

    def build(self):
        raise NotImplementedError

    def forward(self, tokens, trace):
        raise NotImplementedError

    def write_keys(self, gguf):
        raise NotImplementedError

    # Files.

    def key(self, name):
        return f"{self.arch}.{name}"

    def write_gguf(self, path):
        gguf = GgufWriter()
        gguf.string("general.architecture", self.arch)
        gguf.string("general.name", self.file_name)
        gguf.u32("general.file_type", 1 if self.f16 else 0)
        gguf.u32(self.key("block_count"), self.n_layers)
        gguf.u32(self.key("context_length"), self.context_length)
        gguf.u32(self.key("embedding_length"), self.d_model)
        self.write_keys(gguf)
        {"spm": vocab.write_spm, "bpe": vocab.write_bpe, "wpm": vocab.write_wpm}[
            self.tokenizer[0]](gguf, *self.tokenizer[1:])
        for name, array in self._stored.items():
            gguf.tensor(name, array)
        gguf.write(path)

    def draw_prompt(self, rng, length):
        first_piece = {"spm": 3, "bpe": 0, "wpm": 5}[self.tokenizer[0]]
        last = self.vocab_size - (1 if self.tokenizer[0] == "bpe" else 0)
        ids = rng.randint(first_piece, last, size=length).tolist()
        if self.tokenizer[0] == "spm":
            ids[0] = 1
        return ids

    def golden_prompts(self):
        rng = np.random.RandomState(zlib.crc32(self.file_name.encode()) + 1)
        return [self._golden_prompt(rng, length, positions)
                for length, positions in ((41, (0, 19, 40)), (7, (6,)))]

    def _golden_prompt(self, rng, length, positions):
        for _ in range(400):
            tokens = self.draw_prompt(rng, length)
            greedy, margin, routing = self.greedy(tokens)
            if margin >= GREEDY_MARGIN and routing >= ROUTING_MARGIN:
                break
        else:
            raise RuntimeError(f"{self.file_name}: no prompt with clear choices")
        trace = Trace()
        logits = self.forward(tokens, trace)
        last = length - 1
        rounded = with_f16_cache(lambda: self.forward(tokens, Trace()))
        return {
            "tokens": tokens,
            "logits": [{"position": p, "values": logits[p]} for p in positions],
            "logits_f16_cache": [{"position": p, "values": rounded[p]} for p in positions],
            "hidden": {
                "position": last,
                "embedding": trace.embedding[last],
                "layers": [layer[last] for layer in trace.layers],
                "final_norm": trace.final_norm[last],
            },
            "greedy": greedy,
            "greedy_margin": margin,
        }

    def greedy(self, prompt):
        """The continuation, the least lead of a best logit, the least lead of a chosen expert."""
        tokens, margin, trace = list(prompt), float("inf"), Trace()
        for _ in range(GREEDY_TOKENS):
            best = torch.topk(self.forward(tokens, trace)[-1], 2)
            margin = min(margin, (best.values[0] - best.values[1]).item())
            tokens.append(best.indices[0].item())
            if margin < GREEDY_MARGIN or trace.routing_margin < ROUTING_MARGIN:
                break
        return tokens[len(prompt):], margin, trace.routing_margin

    def golden(self):
        return {"prompts": self.golden_prompts()}

    def write(self, folder):
        self.write_gguf(folder / f"{self.file_name}.gguf")
        head = {
            "format": "venturi-golden-1",
            "model": f"{self.file_name}.gguf",
            "architecture": self.arch,
            "variant": self.variant,
            "n_layers": self.n_layers,
            "d_model": self.d_model,
            "vocab_size": self.vocab_size,
        }
        write_json(folder / f"{self.file_name}.json", {**head, **self.golden()})


def with_f16_cache(forward):
    """What an engine computes that keeps keys and values (or the latent) as F16."""
    nn.CACHE_TYPE = torch.float16
    try:
        return forward()
    finally:
        nn.CACHE_TYPE = None


def write_json(path, value):
    """JSON with one list of numbers a line, and floats to the 9 digits that float32 needs."""
    path.write_text(_json(value, 0) + "\n")


def _json(value, depth):
    if isinstance(value, (torch.Tensor, np.ndarray)):
        value = np.asarray(value, dtype=np.float32).reshape(-1).tolist()
    if isinstance(value, float):
        return f"{np.float32(value):.9g}"
    if isinstance(value, dict):
        pad = " " * (depth + 1)
        body = ",\n".join(f"{pad}{json.dumps(k)}: {_json(v, depth + 1)}" for k, v in value.items())
        return "{\n" + body + "\n" + " " * depth + "}"
    if isinstance(value, (list, tuple)):
        if all(isinstance(v, (int, float)) for v in value):
            return "[" + ",".join(_json(v, depth) for v in value) + "]"
        pad = " " * (depth + 1)
        body = ",\n".join(pad + _json(v, depth + 1) for v in value)
        return "[\n" + body + "\n" + " " * depth + "]"
    return json.dumps(value)
