#!/usr/bin/env python3
"""A model and a draft of it that agree, for speculation over random weights: serving.py speculation --model TARGET --draft DRAFT.

    benchmarks/draft_pair.py MODEL.gguf LAYERS TARGET.gguf DRAFT.gguf

TARGET is MODEL with zeros for what its layers from LAYERS on add to the stream (attn_output, ffn_down): they cost what they
cost before and change nothing. DRAFT has the first LAYERS layers alone, and so the same logits for their share of the work;
every guess holds. What is measured is what guessing costs and gains at best; how often guesses of a trained pair hold is theirs.
"""
import mmap
import re
import shutil
import struct
import sys

SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # bytes of a value, by its type
STRING, ARRAY, UINT32 = 8, 9, 4


class Gguf:
    """Where things are in a file: key-value pairs as they lie there, tensors with their bytes."""

    def __init__(self, path):
        with open(path, "rb") as file:
            self.bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        magic, version, n_tensors, n_pairs = struct.unpack_from("<4sIQQ", self.bytes, 0)
        if magic != b"GGUF" or version != 3:
            sys.exit(f"{path}: no GGUF file of version 3")
        self.at, self.pairs, self.tensors, alignment = 24, [], [], 32
        for _ in range(n_pairs):
            begin, key = self.at, self.text()
            value = self.at
            self.skip(self.number("<I"))
            self.pairs.append((key, self.bytes[begin:self.at], value + 4 - begin))
            if key == "general.alignment":
                alignment = struct.unpack_from("<I", self.bytes, value + 4)[0]
        self.alignment = alignment
        for _ in range(n_tensors):
            name = self.text()
            dims = [self.number("<Q") for _ in range(self.number("<I"))]
            self.tensors.append({"name": name, "dims": dims, "type": self.number("<I"), "begin": self.number("<Q")})
        data = -(-self.at // alignment) * alignment
        ends = sorted(t["begin"] for t in self.tensors)[1:] + [len(self.bytes) - data]
        for tensor, end in zip(sorted(self.tensors, key=lambda t: t["begin"]), ends):
            tensor["begin"], tensor["end"] = data + tensor["begin"], data + end

    def number(self, form):
        value, = struct.unpack_from(form, self.bytes, self.at)
        self.at += struct.calcsize(form)
        return value

    def text(self):
        n = self.number("<Q")
        self.at += n
        return self.bytes[self.at - n:self.at].decode()

    def skip(self, kind):
        if kind == STRING:
            self.text()
        elif kind == ARRAY:
            of, n = self.number("<I"), self.number("<Q")
            if of in SIZES:
                self.at += n * SIZES[of]
            else:
                for _ in range(n):
                    self.skip(of)
        else:
            self.at += SIZES[kind]


def layer(tensor):
    found = re.match(r"blk\.(\d+)\.", tensor["name"])
    return int(found.group(1)) if found else -1


def write_target(model, path, layers, target):
    shutil.copyfile(path, target)
    with open(target, "r+b") as file:
        for tensor in model.tensors:
            if layer(tensor) >= layers and re.search(r"\.(attn_output|ffn_down)\.(weight|bias)$", tensor["name"]):
                file.seek(tensor["begin"])
                file.write(bytes(tensor["end"] - tensor["begin"]))  # of a codec with scales, scales of zero


def write_draft(model, layers, draft):
    kept = [t for t in model.tensors if layer(t) < layers]
    pad = lambda n: -n % model.alignment
    with open(draft, "wb") as file:
        file.write(struct.pack("<4sIQQ", b"GGUF", 3, len(kept), len(model.pairs)))
        for key, raw, value in model.pairs:
            file.write(raw[:value] + struct.pack("<I", layers) + raw[value + 4:] if key.endswith(".block_count") else raw)
        at = 0
        for t in kept:
            name = t["name"].encode()
            file.write(struct.pack("<Q", len(name)) + name + struct.pack(f"<I{len(t['dims'])}QIQ", len(t["dims"]), *t["dims"], t["type"], at))
            at += t["end"] - t["begin"]
            at += pad(at)
        file.write(bytes(pad(file.tell())))
        for t in kept:
            file.write(model.bytes[t["begin"]:t["end"]])
            file.write(bytes(pad(file.tell())))


def main():
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    path, layers, target, draft = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
    model = Gguf(path)
    if not 0 < layers <= max(map(layer, model.tensors)):
        sys.exit(f"LAYERS must be 1 to {max(map(layer, model.tensors))}")
    write_target(model, path, layers, target)
    write_draft(model, layers, draft)


if __name__ == "__main__":
    main()
