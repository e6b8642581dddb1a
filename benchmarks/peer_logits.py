#!/usr/bin/env python3
"""Our logits beside llama.cpp's, on the same GGUF files and the same tokens.

    benchmarks/peer_logits.py --library build/release/libventuri.so --server LLAMA_CPP/build/bin/llama-server \\
        [--tokens 40] [--places 12] [--json FILE] MODEL.gguf...

We keep keys and values in F16; the peer is run with caches in F32, for with F16 ones it rounds queries and weights of the
attention to F16 too. Prompts are random tokens (a seed for each file), the longest as long as --tokens or the
model's context; log-probabilities of the whole vocabulary are compared after each of --places prefixes of it, taken from
our C library and from the server's /completion with n_probs as large as the vocabulary. Of models that embed, the pooled vectors
scaled to length 1 are compared instead. The models of tests/data/models, and those that tools/golden/make_models.py
makes, are small enough. A file that the peer does not read is told with its reason. Needs Python's standard library only.
"""
import argparse
import ctypes
import json
import math
import random
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import zlib
from pathlib import Path


# --- ours

class Error(ctypes.Structure):
    _fields_ = [("code", ctypes.c_int), ("message", ctypes.c_char * 1000)]


class OpenOptions(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("memory_bytes", ctypes.c_uint64), ("context", ctypes.c_int64),
                ("batch", ctypes.c_int64), ("outputs", ctypes.c_int64), ("sequences", ctypes.c_int32),
                ("threads", ctypes.c_int32)]


class Info(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("vocab_size", ctypes.c_int64), ("context", ctypes.c_int64),
                ("output_width", ctypes.c_int64), ("memory_held", ctypes.c_uint64), ("bos", ctypes.c_int32),
                ("eos", ctypes.c_int32), ("embeds", ctypes.c_int32)]


class Ours:
    def __init__(self, library, path):
        self.lib, self.error = ctypes.CDLL(str(library)), Error()
        options = OpenOptions()
        self.lib.venturi_open_options_init(ctypes.byref(options))
        self.model = ctypes.c_void_p()
        self.check(self.lib.venturi_open(str(path).encode(), ctypes.byref(options), ctypes.byref(self.model),
                                         ctypes.byref(self.error)))
        self.info = Info(size=ctypes.sizeof(Info))
        self.lib.venturi_get_info(self.model, ctypes.byref(self.info))

    def check(self, code):
        if code:
            raise RuntimeError(self.error.message.decode())

    def output(self, tokens):
        """What the model gives after the last of the tokens."""
        sequence, found = ctypes.c_void_p(), ctypes.POINTER(ctypes.c_float)()
        self.check(self.lib.venturi_sequence_new(self.model, ctypes.byref(sequence), ctypes.byref(self.error)))
        self.check(self.lib.venturi_eval(sequence, (ctypes.c_int32 * len(tokens))(*tokens), ctypes.c_size_t(len(tokens)),
                                         ctypes.c_size_t(1), ctypes.byref(found), ctypes.byref(self.error)))
        values = found[:self.info.output_width]
        self.lib.venturi_sequence_free(sequence)
        return values

    def close(self):
        self.lib.venturi_close(self.model)


def log_probabilities(logits):
    top = max(logits)
    total = top + math.log(sum(math.exp(x - top) for x in logits))
    return [x - total for x in logits]


def unit(values):
    length = math.sqrt(sum(v * v for v in values))
    return [v / length for v in values]


# --- the peer's

class Peer:
    def __init__(self, server, path, embeds, context):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.log = tempfile.TemporaryFile("w+")
        flags = ["--embedding"] if embeds else []
        self.process = subprocess.Popen([server, "-m", path, "--host", "127.0.0.1", "--port", str(self.port), "-c", str(context),
                                         "-t", "2", "-np", "1", "--no-warmup", "-ctk", "f32", "-ctv", "f32", *flags],
                                        stdout=self.log, stderr=self.log)
        for _ in range(600):
            if self.process.poll() is not None:
                raise RuntimeError(self.reason())
            try:
                if self.request("/health") == {"status": "ok"}:
                    self.letter = self.request("/tokenize", {"content": "e"})["tokens"][-1]
                    return
            except OSError:
                time.sleep(0.1)
        raise RuntimeError("the peer's server did not come up")

    def reason(self):
        self.log.seek(0)
        text = self.log.read()
        found = re.search(r"error loading model[^:]*: (.*)|unknown model architecture: .*|GGML_ASSERT.*|.*fatal error.*", text)
        return (found.group(1) or found.group(0)) if found else f"it stopped while loading, exit code {self.process.returncode}"

    def request(self, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, {"Content-Type": "application/json"})
        return json.loads(urllib.request.urlopen(request, timeout=120).read())

    def log_probabilities(self, tokens, n_vocab):
        # Tokens that are no whole character, and the end of a text, are given no probabilities: one that has them is
        # forced. They are of the logits before that.
        answer = self.request("/completion", {"prompt": tokens, "n_predict": 1, "n_probs": n_vocab, "temperature": -1.0,
                                              "cache_prompt": False, "logit_bias": [[self.letter, 1e6]]})
        values = [None] * n_vocab
        for entry in answer["completion_probabilities"][0]["top_logprobs"]:
            values[entry["id"]] = entry["logprob"]
        return values

    def embedding(self, tokens):
        values = self.request("/embedding", {"content": tokens})[0]["embedding"]
        return values[0] if isinstance(values[0], list) else values

    def close(self):
        self.process.terminate()
        self.process.wait()


# --- side by side

def compare(o, path):
    ours = Ours(o.library, path)
    info = ours.info
    rng = random.Random(zlib.crc32(path.name.encode()))
    # The first three ids of these vocabularies are special.
    length = min(o.tokens, info.context - 1)
    tokens = [max(info.bos, 0)] + [rng.randrange(5, info.vocab_size - 1) for _ in range(length - 1)]
    try:
        peer = Peer(o.server, path, info.embeds, info.context)
    except RuntimeError as error:
        ours.close()
        return {"model": path.stem, "refused": str(error)}
    errors, agree, spread = [], 0, []
    lengths = sorted({max(2, round((i + 1) * length / o.places)) for i in range(o.places)})
    try:
        for n in lengths:
            if info.embeds:
                a, b = unit(ours.output(tokens[:n])), unit(peer.embedding(tokens[:n]))
                agree += sum(x * y for x, y in zip(a, b)) > 0.9999
            else:
                a, b = log_probabilities(ours.output(tokens[:n])), peer.log_probabilities(tokens[:n], info.vocab_size)
                agree += max(range(len(a)), key=a.__getitem__) == max(range(len(b)), key=lambda i: b[i])
            mean = sum(a) / len(a)
            spread.append(math.sqrt(sum((x - mean)**2 for x in a) / len(a)))
            errors += [abs(x - y) for x, y in zip(a, b)]
    except (OSError, KeyError, TypeError) as error:
        return {"model": path.stem, "refused": f"the peer gave no answer: {error}"}
    finally:
        peer.close()
        ours.close()
    return {"model": path.stem, "embeds": bool(info.embeds), "places": len(lengths), "values": len(errors), "largest": max(errors),
            "mean": sum(errors) / len(errors), "spread": sum(spread) / len(spread), "agree": agree / len(lengths)}


def row(r):
    if "refused" in r:
        return f"| {r['model']} | not read: {r['refused']} | | | |"
    kind = " (pooled vector)" if r["embeds"] else ""
    return (f"| {r['model']}{kind} | {r['largest']:.1e} | {r['mean']:.1e} | {r['spread']:.2f} | "
            f"{100 * r['agree']:.0f} % of {r['places']} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", required=True, type=Path)
    parser.add_argument("--server", required=True, type=Path)
    parser.add_argument("--tokens", type=int, default=40)
    parser.add_argument("--places", type=int, default=12)
    parser.add_argument("--json", type=Path)
    parser.add_argument("models", nargs="+", type=Path)
    o = parser.parse_args()
    rows = []
    print("| model | largest difference | mean | standard deviation of the values | same best token |\n|---|---|---|---|---|")
    for path in o.models:
        rows.append(compare(o, path))
        print(row(rows[-1]), flush=True)
        if o.json:
            o.json.write_text(json.dumps(rows, indent=1))
    sys.exit(0 if any("refused" not in r for r in rows) else 1)


if __name__ == "__main__":
    main()
