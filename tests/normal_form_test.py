"""Unicode normal forms of byte-level tokenizers, beside those of Python's unicodedata."""
import json
import random
import struct
import tempfile
import unicodedata
from pathlib import Path

import support
from support import ProgramTest

FORMS = ("NFC", "NFD", "NFKC", "NFKD")


def byte_spellings():
    """GPT-2's letter for each byte."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters, following = [], 256
    for byte in range(256):
        letters.append(chr(byte) if byte in printable else chr(following))
        following += byte not in printable
    return letters


def is_assigned(code):
    return not 0xD800 <= code < 0xE000 and unicodedata.category(chr(code)) not in ("Cn", "Co")


class NormalForms(ProgramTest):
    """A vocabulary of the 256 bytes: the ids are the bytes of the text as it is tokenized."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def model(self, normalizer):
        path = self.folder / "model"
        path.mkdir(exist_ok=True)
        config = {"architectures": ["Qwen2ForCausalLM"], "num_hidden_layers": 1, "hidden_size": 8,
                  "num_attention_heads": 1, "num_key_value_heads": 1, "vocab_size": 256, "max_position_embeddings": 64,
                  "intermediate_size": 8, "rms_norm_eps": 1e-6}
        (path / "config.json").write_text(json.dumps(config))
        level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": True}
        (path / "tokenizer.json").write_text(json.dumps({
            "normalizer": normalizer, "pre_tokenizer": level, "decoder": level, "added_tokens": [],
            "model": {"type": "BPE", "vocab": {c: i for i, c in enumerate(byte_spellings())}, "merges": []}}))
        header = json.dumps({"model.embed_tokens.weight": {"dtype": "F16", "shape": [256, 8], "data_offsets": [0, 4096]}})
        header += " " * (-len(header) % 8)
        (path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header.encode() + bytes(4096))
        return path

    def normalised(self, text, normalizer):
        source = self.folder / "text"
        source.write_bytes(text if isinstance(text, bytes) else text.encode())
        out = self.succeeds("tokenize", "-m", self.model(normalizer), "--ids", "--no-bos", "-f", source).out
        return bytes(map(int, out.split()))

    def same_as_python(self, text):
        for form in FORMS:
            with self.subTest(form=form):
                got = self.normalised(text, {"type": form})
                expected = unicodedata.normalize(form, text).encode()
                if got != expected:
                    at = next((i for i, (a, b) in enumerate(zip(got, expected)) if a != b), min(len(got), len(expected)))
                    self.fail(f"at byte {at}: {got[at - 20:at + 20]!r}, expected {expected[at - 20:at + 20]!r}")

    def test_every_character(self):
        self.same_as_python("|".join(chr(c) for c in range(1, 0x110000) if is_assigned(c) and not 0x4E00 <= c < 0x9F00))

    def test_marks_in_any_order(self):
        draw = random.Random(1)
        bases = [c for c in range(0x41, 0x30000) if is_assigned(c) and unicodedata.decomposition(chr(c))]
        marks = [c for c in range(0x300, 0x1F000) if is_assigned(c) and unicodedata.combining(chr(c))]
        jamo = [*range(0x1100, 0x1113), *range(0x1161, 0x1176), *range(0x11A8, 0x11C3)]
        text = "".join(chr(draw.choice(draw.choice((bases, marks, marks, jamo)))) for _ in range(60000))
        self.same_as_python(text)

    def test_without_a_normaliser_nothing_changes(self):
        text = "e\u0301 \u212b \ufb01"
        self.assertEqual(self.normalised(text, None), text.encode())

    def test_bytes_that_are_no_text_stay(self):
        self.assertEqual(self.normalised(b"e\xcc\x81\xff\xcc\x81", {"type": "NFC"}), b"\xc3\xa9\xff\xcc\x81")

    def test_a_sequence_of_one_and_what_is_not_known(self):
        self.assertEqual(self.normalised("e\u0301", {"type": "Sequence", "normalizers": [{"type": "NFC"}]}), b"\xc3\xa9")
        message = self.fails(1, "tokenize", "-m", self.model({"type": "Lowercase"}), "-p", "a")
        self.assertIn("Lowercase", message)


if __name__ == "__main__":
    support.main()
