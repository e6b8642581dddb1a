#!/usr/bin/env python3
"""What adapters cost a step that decodes for several streams.

    benchmarks/adapters.py --venturi build/release/venturi --model FILE.gguf --rank 16 --adapters 8 --streams 8

Makes random adapters (F16, peft's layout) of every projection of a llama-shaped model in a temporary folder, then
runs `venturi bench` without adapters, with as many as there are streams, and with one for all streams, in turns that
change their order, and prints the medians of the ratios of time per step. With --other, the same without adapters by
another program first of each turn, for what rows without an adapter cost. Needs Python's standard library only.
"""
import argparse
import json
import random
import statistics
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

MODULES = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
           "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
           "ffn_down": "mlp.down_proj"}
# High bytes of small f16 values: a sign, 2^-9 to 2^-6, two bits of fraction.
HIGH = bytes((b & 0x80) | (0x18 + (b >> 2 & 0x0f)) for b in range(256))


def shapes(venturi, model):
    """(module, n_in, n_out) of every projection."""
    listed = json.loads(subprocess.run([venturi, "inspect", "-m", model, "--json"], capture_output=True, text=True,
                                       check=True).stdout)
    for tensor in listed["tensors"]:
        parts = tensor["name"].split(".")
        if parts[0] == "blk" and parts[2] in MODULES and parts[3] == "weight":
            yield f"model.layers.{parts[1]}.{MODULES[parts[2]]}", tensor["dims"][0], tensor["dims"][1]


def halves(rng, count):
    data = bytearray(rng.randbytes(2 * count))
    data[1::2] = bytes(data[1::2]).translate(HIGH)
    return bytes(data)


def write_adapter(folder, modules, rank, seed):
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps(
        {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": "all-linear"}))
    header, end, sizes = {}, 0, []
    for module, n_in, n_out in modules:
        for part, shape in (("A", [rank, n_in]), ("B", [n_out, rank])):
            size = 2 * shape[0] * shape[1]
            header[f"base_model.model.{module}.lora_{part}.weight"] = {
                "dtype": "F16", "shape": shape, "data_offsets": [end, end + size]}
            end += size
            sizes.append(size)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    rng = random.Random(seed)
    with open(folder / "adapter_model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for size in sizes:
            file.write(halves(rng, size // 2))
    return end


def rate(venturi, arguments, adapters):
    command = [venturi, "bench", "-m", arguments.model, "-p", "0", "-n", str(arguments.tokens), "-r", "1", "--json",
               "--streams", str(arguments.streams), "-c", "256"]
    if arguments.threads:
        command += ["-t", str(arguments.threads)]
    for folder in adapters:
        command += ["--lora", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: {done.stderr[-500:]}")
    return json.loads(done.stdout)[0]["tokens_per_second"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--venturi", required=True)
    parser.add_argument("--other", help="a program to compare the runs without adapters with")
    parser.add_argument("--model", required=True)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--adapters", type=int, default=8)
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=24, help="steps of a measurement")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--folder", help="keep the adapters here, and take those that are there")
    arguments = parser.parse_args()
    modules = list(shapes(arguments.venturi, arguments.model))
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(arguments.folder or temporary)
        folders = [root / f"adapter-{i}" for i in range(arguments.adapters)]
        for i, folder in enumerate(folders):
            if not folder.exists():
                write_adapter(folder, modules, arguments.rank, i)
        kinds = {"none": (arguments.venturi, []), "each its own": (arguments.venturi, folders),
                 "one for all": (arguments.venturi, folders[:1])}
        if arguments.other:
            kinds["other program, none"] = (arguments.other, [])
        ratios = {kind: [] for kind in kinds}
        for turn in range(arguments.turns):
            order = list(kinds) if turn % 2 == 0 else list(kinds)[::-1]
            rates = {kind: rate(*[kinds[kind][0], arguments, kinds[kind][1]]) for kind in order}
            for kind, value in rates.items():
                ratios[kind].append(rates["none"] / value)
            print(json.dumps({kind: round(value, 2) for kind, value in rates.items()}), file=sys.stderr, flush=True)
    print(f"rank {arguments.rank}, {arguments.adapters} adapters, {arguments.streams} streams: time of a step over one without")
    for kind, values in ratios.items():
        print(f"{kind}: {statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f}, {len(values)} turns)")


if __name__ == "__main__":
    main()
