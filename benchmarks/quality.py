#!/usr/bin/env python3
"""What each weight type loses, with our encoders and with llama.cpp's: one table.

    benchmarks/quality.py --venturi build/release/venturi --peer LLAMA_CPP/build/bin --model HF_DIRECTORY \\
        --calibration train.txt --text held-out.txt [--windows 160] [--types Q4_0,Q4_K] [--work FOLDER] --json quality.json

Every matrix is stored in the one type (--pure), with and without an importance matrix; the peer's is made by its
llama-imatrix from the same text (--calibration-kilobytes of it). All files are judged by `venturi eval --base F16` over the same windows, so that
the only difference is the encoder. The ratio is our KL divergence over the peer's; the bar is 1.05.

Types in blocks of 256 need rows of so many: the model is widened for them. Zeros are appended to every row of d_model
and a head of zeros to every group, and what that does to the norms is taken back in their weights and epsilon, so that
the wide model computes what the narrow one does; the script checks that both perplexities agree. A run that was broken off goes on with --resume.
Needs Python's standard library only.
"""
import argparse
import array
import json
import math
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

SMALL = ["Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0", "IQ4_NL"]  # blocks of 32
LARGE = ["Q6_K", "Q5_K", "Q4_K", "Q3_K", "Q2_K", "IQ4_XS"]  # of 256
OURS = {"Q5_K": "Q5_K_S", "Q4_K": "Q4_K_S", "Q3_K": "Q3_K_S"}  # names of the mixtures that --pure makes one type of
BLOCK = 256
BAR = 1.05


def run(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout[-1000:]}{done.stderr[-2000:]}")
    return done.stdout


# --- the widened model

def read_safetensors(path):
    raw = path.read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8:8 + size])
    header.pop("__metadata__", None)
    tensors = {}
    for name, t in header.items():
        begin, end = (8 + size + o for o in t["data_offsets"])
        if t["dtype"] not in ("F16", "F32"):
            sys.exit(f"{path}: {name} is {t['dtype']}; F16 and F32 can be widened")
        code = "e" if t["dtype"] == "F16" else "f"
        tensors[name] = (t["shape"], struct.unpack(f"<{math.prod(t['shape'])}{code}", raw[begin:end]))
    return tensors


def write_safetensors(path, tensors):
    header, offset, data = {}, 0, []
    for name, (shape, values) in tensors.items():
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [offset, offset + 4 * len(values)]}
        offset += 4 * len(values)
        data.append(array.array("f", values).tobytes())
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data))


def pad_columns(shape, values, wide):
    rows, n = shape
    zeros = [0.0] * (wide - n)
    return [rows, wide], [v for r in range(rows) for v in (*values[r * n:(r + 1) * n], *zeros)]


def pad_rows(shape, values, wide):
    return [wide, shape[1]], [*values, *[0.0] * ((wide - shape[0]) * shape[1])]


def with_empty_heads(shape, values, groups, size, times):
    """Rows of `groups` groups of heads: up to `times` as many heads a group, the new ones zero."""
    group = shape[0] // groups * shape[1]
    zeros = [0.0] * (times * size * shape[1] - group)
    out = [v for g in range(groups) for v in (*values[g * group:(g + 1) * group], *zeros)]
    return [groups * times * size, shape[1]], out


def transposed(shape, values):
    return shape[::-1], [values[r * shape[1] + c] for c in range(shape[1]) for r in range(shape[0])]


def widen(source, target):
    """Writes the llama of the Hugging Face directory `source` with rows of whole blocks."""
    config = json.loads((source / "config.json").read_text())
    narrow = config["hidden_size"]
    wide = -(-narrow // BLOCK) * BLOCK
    size, groups = config["head_dim"], config["num_key_value_heads"]
    heads = -(-config["num_attention_heads"] * size // BLOCK) * BLOCK // size
    shrink = narrow / wide  # mean of squares over more values
    out = {}
    for name, (shape, values) in read_safetensors(source / "model.safetensors").items():
        if len(shape) == 1:
            shape, values = [wide], [v * math.sqrt(shrink) for v in values] + [0.0] * (wide - narrow)
        elif name.endswith("o_proj.weight"):
            shape, values = transposed(*with_empty_heads(*transposed(shape, values), groups, size, heads // groups))
            shape, values = pad_rows(shape, values, wide)
        elif name.endswith("down_proj.weight"):
            shape, values = pad_rows(shape, values, wide)
        else:
            if name.endswith("q_proj.weight"):
                shape, values = with_empty_heads(shape, values, groups, size, heads // groups)
            shape, values = pad_columns(shape, values, wide)
        out[name] = (shape, values)
    target.mkdir(exist_ok=True)
    write_safetensors(target / "model.safetensors", out)
    config.update(hidden_size=wide, num_attention_heads=heads, rms_norm_eps=config["rms_norm_eps"] * shrink)
    (target / "config.json").write_text(json.dumps(config))
    for path in source.iterdir():
        if path.name.startswith("tokenizer") or path.name == "generation_config.json":
            (target / path.name).write_bytes(path.read_bytes())
    return target


# --- the comparison

class Comparison:
    def __init__(self, o, work, source, text):
        self.o, self.work, self.text = o, work, text
        self.base = work / "f16.gguf"
        self.imatrix = work / "imatrix.dat"
        if not self.base.exists():
            run(o.venturi, "convert", "-m", source, "-o", self.base, "--type", "F16")

    def evaluate(self, model, *base):
        flags = ["--windows", self.o.windows] if self.o.windows else []
        return json.loads(run(self.o.venturi, "eval", "-m", model, "-f", self.text, "--ctx", 256, "--json", *flags, *base))

    def perplexity(self):
        return self.evaluate(self.base)["perplexity"]

    def ours(self, kind, importance):
        out = self.work / "ours.gguf"
        flags = ["--imatrix", self.o.calibration] if importance else []
        run(self.o.venturi, "convert", "-m", self.base, "-o", out, "--type", OURS.get(kind, kind), "--pure", *flags)
        return out

    def theirs(self, kind, importance):
        out = self.work / "theirs.gguf"
        flags = ["--imatrix", self.imatrix] if importance else []
        if importance and not self.imatrix.exists():
            run(self.o.peer / "llama-imatrix", "-m", self.base, "-f", self.o.calibration, "-o", self.imatrix, "-c", 512,
                "-ngl", 0)
        run(self.o.peer / "llama-quantize", *flags, "--pure", self.base, out, OURS.get(kind, kind))
        return out

    def judged(self, path):
        found = self.evaluate(path, "--base", self.base)
        types = json.loads(run(self.o.venturi, "inspect", "-m", path, "--json"))
        return {"bytes": path.stat().st_size, "perplexity": found["perplexity"], "kl": found["kl_divergence"],
                "types": types.get("types")}


def table(rows, perplexity):
    lines = [f"F16 has a perplexity of {perplexity:.4f}.", "",
             "| type | importance matrix | MB | perplexity | of llama.cpp | KL divergence | of llama.cpp | ratio |",
             "|---|---|---|---|---|---|---|---|"]
    for r in rows:
        a, b = r["ours"], r["theirs"]
        ratio = a["kl"] / b["kl"]
        lines.append(f"| {r['type']} | {'with' if r['importance'] else 'without'} | {a['bytes'] / 1e6:.2f} | {a['perplexity']:.3f} | "
                     f"{b['perplexity']:.3f} | {a['kl']:.6f} | {b['kl']:.6f} | {ratio:.3f}{'' if ratio <= BAR else ' (over)'} |")
    return "\n".join(lines)


def first_kilobytes(path, n, target):
    target.write_bytes(path.read_bytes()[:n * 1000].decode(errors="ignore").encode())
    return target


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("venturi", "peer", "model", "calibration", "text", "json"):
        parser.add_argument("--" + name, required=True, type=Path)
    parser.add_argument("--types", default=",".join(SMALL + LARGE))
    parser.add_argument("--windows", type=int, help="of 256 tokens (default: all of the text)")
    parser.add_argument("--calibration-kilobytes", type=int, default=200)
    parser.add_argument("--work", type=Path, help="folder for the files between (default: a temporary one)")
    parser.add_argument("--resume", action="store_true", help="go on with what --json has")
    o = parser.parse_args()
    temporary = tempfile.TemporaryDirectory()
    work = o.work or Path(temporary.name)
    (work / "narrow").mkdir(parents=True, exist_ok=True)
    (work / "wide").mkdir(exist_ok=True)
    o.calibration = first_kilobytes(o.calibration, o.calibration_kilobytes, work / "calibration.txt")
    narrow = Comparison(o, work / "narrow", o.model, o.text)
    wide = Comparison(o, work / "wide", widen(o.model, work / "wide" / "hf"), o.text)
    perplexity, same = narrow.perplexity(), wide.perplexity()
    if abs(same / perplexity - 1) > 1e-3:
        sys.exit(f"the widened model has a perplexity of {same}, expected {perplexity}")
    rows = json.loads(o.json.read_text()) if o.resume and o.json.exists() else []
    done = {(r["type"], r["importance"]) for r in rows}
    for kind in o.types.split(","):
        comparison = wide if kind in LARGE else narrow
        for importance in (False, True):
            if (kind, importance) in done:
                continue
            rows.append({"type": kind, "importance": importance, "ours": comparison.judged(comparison.ours(kind, importance)),
                         "theirs": comparison.judged(comparison.theirs(kind, importance))})
            o.json.write_text(json.dumps(rows, indent=1))
            print(table(rows[-1:], perplexity).splitlines()[-1], flush=True)
    print("\n" + table(rows, perplexity))


if __name__ == "__main__":
    main()
