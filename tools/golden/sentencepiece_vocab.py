#!/usr/bin/env python3
"""Trains two small SentencePiece vocabularies and writes them with ids that SentencePiece gives.

    tools/golden/sentencepiece_vocab.py TEXT tests/data/vocab

needs the programs spm_train and spm_encode (Debian package `sentencepiece`); TEXT is any plain text
(the committed files come from the first 200 kB of War and Peace). For each of `unigram` (t5 scheme:
NFKC map, extra spaces removed, no byte tokens) and `sentencepiece-bpe` (llama scheme: byte tokens,
text left as it is) it writes NAME.gguf, NAME.gguf.inp and NAME.gguf.out.
"""
import random
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

SEPARATOR = "\n__ggml_vocab_test__\n"
KINDS = {
    "unigram": ("t5", ["--model_type=unigram", "--vocab_size=800"]),
    "sentencepiece-bpe": ("llama", [
        "--model_type=bpe", "--vocab_size=1000", "--byte_fallback=true",
        "--remove_extra_whitespaces=false", "--normalization_rule_name=identity"]),
}


def protobuf(data):
    """The (field, value) pairs of one protocol buffer message, in order."""
    at = 0

    def varint():
        nonlocal at
        result = shift = 0
        while True:
            byte = data[at]
            at += 1
            result |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return result

    while at < len(data):
        key = varint()
        wire = key & 7
        if wire == 0:
            yield key >> 3, varint()
            continue
        size = {1: 8, 2: None, 5: 4}[wire]
        size = varint() if size is None else size
        yield key >> 3, data[at:at + size]
        at += size


def string(text):
    text = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(text)) + text


def array(kind, values, pack):
    return struct.pack("<IIQ", 9, kind, len(values)) + b"".join(map(pack, values))


def write_gguf(path, scheme, model):
    pieces, normalizer = [], {}
    for field, value in protobuf(model):
        if field == 1:
            piece = dict(protobuf(value))
            pieces.append((piece[1], struct.unpack("<f", piece[2])[0], piece.get(3, 1)))
        elif field == 3:
            normalizer = dict(protobuf(value))
    keys = [
        ("tokenizer.ggml.model", struct.pack("<I", 8) + string(scheme)),
        ("tokenizer.ggml.tokens", array(8, [p[0] for p in pieces], string)),
        ("tokenizer.ggml.scores", array(6, [p[1] for p in pieces], lambda x: struct.pack("<f", x))),
        ("tokenizer.ggml.token_type", array(5, [p[2] for p in pieces],
                                            lambda x: struct.pack("<i", x))),
        ("tokenizer.ggml.unknown_token_id", struct.pack("<II", 4, 0)),
        ("tokenizer.ggml.bos_token_id", struct.pack("<II", 4, 1)),
        ("tokenizer.ggml.eos_token_id", struct.pack("<II", 4, 2)),
        ("tokenizer.ggml.add_space_prefix", struct.pack("<IB", 7, normalizer.get(3, 1))),
        ("tokenizer.ggml.remove_extra_whitespaces", struct.pack("<IB", 7, normalizer.get(4, 1))),
    ]
    if normalizer.get(2):
        keys.append(("tokenizer.ggml.precompiled_charsmap",
                     array(0, normalizer[2], lambda x: bytes([x]))))
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, len(keys)) +
                     b"".join(string(key) + value for key, value in keys))


def texts(source):
    """Sentences, and mixtures of many scripts."""
    rng = random.Random(7)
    lines = [line for line in source.split("\n") if 20 < len(line) < 300]
    out = rng.sample(lines, 25)
    pools = ["      ", "abcXYZ", "0123456789", ".,;:!?'\"()[]{}<>=+-*/\\|`~^$#@%&_", "éàüßñçøŒ",
             "абвгдЖЩЯ", "中文字漢語", "ひらカタ", "ｶﾞﾀｶﾅ", "한국어", "٠١٢٣", "²³¹½¼Ⅷ", "हिन्दी",
             "😀🚀🦙👩‍💻", "\u0301\u0300", "\u00a0\u3000\u2003\t", "ﬁﬂĳ", "ＡＢ１２", "ǅʰ", "\u200b"]
    for _ in range(40):
        out.append("".join("".join(rng.choices(rng.choice(pools), k=rng.choice([1, 1, 2, 3, 5])))
                           for _ in range(rng.randrange(1, 40))))
    return out + ["a", " ", "   ", " a", "a ", "  two  spaces  "]


def main():
    source, folder = Path(sys.argv[1]), Path(sys.argv[2])
    lines = texts(source.read_text(errors="ignore"))
    for name, (scheme, options) in KINDS.items():
        with tempfile.TemporaryDirectory() as work:
            subprocess.run(["spm_train", f"--input={source}", f"--model_prefix={work}/m", *options],
                           check=True, stderr=subprocess.DEVNULL)
            write_gguf(folder / f"{name}.gguf", scheme, Path(work, "m.model").read_bytes())
            ids = subprocess.run(["spm_encode", f"--model={work}/m.model", "--output_format=id"],
                                 input="\n".join(lines) + "\n", text=True, check=True,
                                 capture_output=True).stdout
        assert ids.count("\n") == len(lines)
        (folder / f"{name}.gguf.inp").write_text(SEPARATOR.join(lines))
        (folder / f"{name}.gguf.out").write_text(ids)


if __name__ == "__main__":
    main()
