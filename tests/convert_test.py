"""venturi convert: there and back through every format, and what is left when it is broken off."""
import itertools
import json
import os
import shutil
import signal
import struct
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

import support
from support import MODEL, VENTURI, ProgramTest, clean_environment

# What a type may add to the perplexity of the embedded model at most, as a factor.
TYPES = {"F32": 1, "F16": 1.001, "BF16": 1.01, "Q8_0": 1.005, "Q6_K": 1.01, "Q5_0": 1.03, "Q5_1": 1.03, "Q5_K_M": 1.03,
         "Q4_0": 1.12, "Q4_1": 1.12, "Q4_K_M": 1.12, "IQ4_NL": 1.12, "IQ4_XS": 1.12, "Q3_K_M": 1.5, "Q2_K": 2.5}


class ConvertTest(ProgramTest):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.shared = Path(folder.name)
        cls.text = cls.shared / "text"  # of the model's own, so that it is not at a loss
        cls.text.write_text("".join(support.venturi("run", "-m", MODEL, "-q", "-p", "It was", "-n", 220, "--seed", seed,
                                                    "--ignore-eos").out for seed in range(4)))
        cls.f32 = cls.shared / "f32.gguf"
        assert support.venturi("convert", "-m", MODEL, "-o", cls.f32, "--type", "F32").code == 0

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def convert(self, source, name, *flags):
        self.succeeds("convert", "-m", source, "-o", self.folder / name, *flags)
        return self.folder / name

    def evaluate(self, model):
        return self.json_of("eval", "-m", model, "-f", self.text, "--ctx", 128, "--json")

    def names(self):
        return sorted(p.name for p in self.folder.iterdir())


class RoundTrips(ConvertTest):
    def test_f32_through_hugging_face_and_back_is_the_same_to_the_last_bit(self):
        expected = self.evaluate(self.f32)
        hf = self.convert(self.f32, "hf", "--hf", "--type", "F32")
        self.assertEqual(self.evaluate(hf), expected)
        back = self.convert(hf, "back.gguf", "--type", "F32")
        self.assertEqual(self.evaluate(back), expected)
        ids = ["run", "-p", "It was", "-n", 40, "--temp", 0, "--ids"]
        self.assertEqual(self.succeeds(*ids, "-m", back).out, self.succeeds(*ids, "-m", self.f32).out)

    def test_an_activation_of_its_own_is_kept(self):
        for model in sorted((support.SOURCE / "tests/data/models").glob("llama-relu*.gguf")):
            with self.subTest(model=model.name):
                hf = self.convert(model, f"{model.stem}-hf", "--hf", "--type", "F32")
                back = self.convert(hf, f"{model.stem}.gguf", "--type", "F32")
                ids = ["run", "-p", "a b", "-n", 12, "--temp", 0, "--ids", "--ignore-eos"]
                there = self.convert(model, "there.gguf", "--type", "F32")
                for again in (hf, back):
                    self.assertEqual(self.succeeds(*ids, "-m", again).out, self.succeeds(*ids, "-m", there).out)

    def test_16_bits_through_hugging_face_and_back(self):
        for dtype in ("F16", "BF16"):
            with self.subTest(dtype=dtype):
                there = self.convert(self.f32, f"{dtype}.gguf", "--type", dtype)
                hf = self.convert(there, f"{dtype}-hf", "--hf", "--type", dtype)
                back = self.convert(hf, f"{dtype}-back.gguf", "--type", dtype)
                self.assertEqual(self.evaluate(back), self.evaluate(there))
                self.assertEqual(self.evaluate(hf), self.evaluate(there))

    def test_converting_to_the_type_that_it_has_copies(self):
        again = self.convert(MODEL, "again.gguf", "--type", "Q8_0")
        self.assertEqual(self.evaluate(again), self.evaluate(MODEL))

    def test_every_type_loses_no_more_than_it_may(self):
        base = self.evaluate(self.f32)["perplexity"]
        for name, factor in TYPES.items():
            with self.subTest(type=name):
                made = self.convert(self.f32, "made.gguf", "--type", name)
                self.assertLess(self.evaluate(made)["perplexity"], base * factor + 1e-9)

    def test_parts_are_the_whole(self):
        whole = self.convert(self.f32, "whole.gguf", "--type", "Q4_0")
        self.convert(self.f32, "cut.gguf", "--type", "Q4_0", "--split", "500K")
        parts = sorted(self.folder.glob("cut-*.gguf"))
        self.assertGreater(len(parts), 2)
        self.assertEqual(parts[0].name, f"cut-00001-of-{len(parts):05}.gguf")
        self.assertEqual(self.evaluate(parts[0]), self.evaluate(whole))
        joined = self.convert(parts[0], "joined.gguf", "--type", "Q4_0")
        self.assertEqual(joined.read_bytes(), whole.read_bytes())
        parts[1].unlink()
        self.assertIn(parts[1].name, self.fails(1, "convert", "-m", parts[0], "-o", self.folder / "no.gguf"))

    def test_an_importance_matrix_helps_on_its_own_text(self):
        def divergence(model):
            result = self.json_of("eval", "-m", model, "--base", self.f32, "-f", self.text, "--ctx", 128, "--json")
            return result["kl_divergence"]

        plain = self.convert(self.f32, "plain.gguf", "--type", "Q2_K", "--pure")
        weighted = self.convert(self.f32, "weighted.gguf", "--type", "Q2_K", "--pure", "--imatrix", self.text)
        self.assertLess(divergence(weighted), divergence(plain))

    def test_threads_change_no_byte(self):
        one = self.convert(self.f32, "one.gguf", "--type", "Q4_K_M", "-t", 1)
        three = self.convert(self.f32, "three.gguf", "--type", "Q4_K_M", "-t", 3)
        self.assertEqual(one.read_bytes(), three.read_bytes())

    def test_the_rope_of_llama_3(self):
        source = support.SOURCE / "tests/data/models/llama-rope-llama3.gguf"
        hf = self.convert(source, "hf", "--hf", "--type", "F32")
        scaling = json.loads((hf / "config.json").read_text())["rope_scaling"]
        self.assertEqual((scaling["rope_type"], scaling["factor"], scaling["original_max_position_embeddings"]),
                         ("llama3", 8.0, 96))
        back = self.convert(hf, "back.gguf", "--type", "F32")
        ids = ["run", "-p", "a b", "-n", 12, "--temp", 0, "--ids", "--ignore-eos"]
        self.assertEqual(self.succeeds(*ids, "-m", back).out, self.succeeds(*ids, "-m", source).out)

    def test_types_in_lower_case(self):
        self.assertEqual(self.convert(self.f32, "low.gguf", "--type", "q4_0").read_bytes(),
                         self.convert(self.f32, "high.gguf", "--type", "Q4_0").read_bytes())

    def test_calibration_keeps_to_a_budget(self):
        flags = ["--type", "Q2_K", "--imatrix", self.text]
        free = self.convert(self.f32, "free.gguf", *flags).read_bytes()
        self.assertEqual(self.convert(self.f32, "held.gguf", *flags, "--memory", "12M").read_bytes(), free)
        self.fails(3, "convert", "-m", self.f32, "-o", self.folder / "no.gguf", *flags, "--memory", "300k")
        self.fails(2, "convert", "-m", self.f32, "-o", self.folder / "no.gguf", "--memory", "12M")


class BrokenOff(ConvertTest):
    def test_a_killed_conversion_leaves_the_old_or_the_new(self):
        target = self.folder / "out.gguf"
        command = [VENTURI, "convert", "-m", self.f32, "-o", target, "--type", "Q2_K", "-t", "1"]
        begin = time.monotonic()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        seconds = time.monotonic() - begin
        new = target.read_bytes()
        seen = set()
        trials = 8
        for i in range(trials):
            target.write_bytes(b"old")
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(seconds * (i + 0.5) / trials)
            process.send_signal(signal.SIGKILL)
            process.wait()
            now = target.read_bytes()
            self.assertIn(now, (b"old", new))
            seen.add(now)
        self.assertIn(b"old", seen)
        if can_be_nameless(self.folder):
            self.assertEqual(self.names(), ["out.gguf"])

    def test_a_killed_directory_is_no_model(self):
        target = self.folder / "hf"
        command = [VENTURI, "convert", "-m", self.f32, "-o", target, "--hf", "--type", "F32"]
        for delay in (0.005, 0.01, 0.02, 0.03, 0.05):
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(delay)
            process.send_signal(signal.SIGKILL)
            process.wait()
            if (target / "config.json").exists():
                self.succeeds("inspect", "-m", target)
            shutil.rmtree(target, ignore_errors=True)

    def small_disk(self, size):
        place = self.folder / "disk"
        place.mkdir()
        if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "venturi-test", place],
                                               capture_output=True).returncode != 0:
            self.skipTest("a small file system cannot be mounted here")
        self.addCleanup(subprocess.run, ["umount", place])
        return place

    def test_a_full_disk_is_told_and_leaves_nothing(self):
        place = self.small_disk("2m")
        for flags in (["-o", place / "out.gguf", "--type", "F16"], ["-o", place / "out.gguf", "--type", "F16", "--split", "1M"],
                      ["-o", place / "hf", "--hf"]):
            with self.subTest(flags=flags):
                error = self.fails(1, "convert", "-m", self.f32, *flags)
                self.assertRegex(error, "No space left|no room")
                self.assertEqual([p for p in place.rglob("*") if p.is_file()], [])

    def test_a_full_disk_leaves_the_old_file(self):
        place = self.small_disk("5m")
        small = place / "out.gguf"
        self.succeeds("convert", "-m", self.f32, "-o", small, "--type", "Q4_0")
        old = small.read_bytes()
        self.fails(1, "convert", "-m", self.f32, "-o", small, "--type", "F16")
        self.assertEqual(small.read_bytes(), old)
        self.assertEqual([p.name for p in place.iterdir()], ["out.gguf"])


class Refusals(ConvertTest):
    def refused(self, source, *flags, code=1):
        out = self.folder / "out.gguf"
        error = self.fails(code, "convert", "-m", source, "-o", out, *flags)
        self.assertFalse(out.exists())
        return error

    def test_outputs_that_are_no_files(self):
        self.assertIn("/dev/null", self.fails(2, "convert", "-m", self.f32, "-o", "/dev/null"))
        self.assertTrue(Path("/dev/null").is_char_device())
        self.fails(2, "convert", "-m", self.f32, "-o", self.folder)
        self.fails(1, "convert", "-m", self.f32, "-o", self.folder / "none" / "out.gguf")
        self.assertEqual(self.names(), [])

    def test_a_folder_with_another_models_files(self):
        hf = self.folder / "hf"
        hf.mkdir()
        (hf / "model.safetensors.index.json").write_text("{}")
        self.assertIn("index.json", self.fails(2, "convert", "-m", self.f32, "-o", hf, "--hf"))
        self.assertEqual([p.name for p in hf.iterdir()], ["model.safetensors.index.json"])

    def test_no_input_is_written_over(self):
        original = self.folder / "a.gguf"
        shutil.copy(self.f32, original)
        content = original.read_bytes()
        (self.folder / "link.gguf").symlink_to(original)
        os.link(original, self.folder / "hard.gguf")
        for source, out in itertools.product(("a.gguf", "link.gguf", "hard.gguf"), repeat=2):
            with self.subTest(source=source, out=out):
                self.fails(2, "convert", "-m", self.folder / source, "-o", self.folder / out, "--type", "Q8_0")
                self.assertEqual(original.read_bytes(), content)
        self.assertTrue((self.folder / "link.gguf").is_symlink())
        hf = self.convert(self.f32, "hf", "--hf", "--type", "F32")
        before = {p.name: p.read_bytes() for p in hf.iterdir()}
        self.fails(2, "convert", "-m", hf, "-o", hf, "--hf", "--type", "F16")
        for name in ("model.safetensors", "config.json", "tokenizer.model", "tokenizer.json"):
            if name in before:
                self.fails(2, "convert", "-m", hf, "-o", hf / name, "--type", "F16")
        self.assertEqual({p.name: p.read_bytes() for p in hf.iterdir()}, before)
        text = self.folder / "text"
        shutil.copy(self.text, text)
        self.fails(2, "convert", "-m", original, "-o", text, "--imatrix", text)
        self.assertEqual(text.read_bytes(), self.text.read_bytes())

    def test_no_part_is_written_over(self):
        self.convert(self.f32, "cut.gguf", "--type", "Q4_0", "--split", "500K")
        parts = {p: p.read_bytes() for p in sorted(self.folder.glob("cut-*.gguf"))}
        self.fails(2, "convert", "-m", next(iter(parts)), "-o", self.folder / "cut.gguf", "--type", "Q4_0", "--split", "500K")
        self.fails(2, "convert", "-m", next(iter(parts)), "-o", list(parts)[1])
        self.assertEqual({p: p.read_bytes() for p in parts}, parts)

    def test_a_renamed_part_is_the_files_fault(self):
        self.convert(self.f32, "cut.gguf", "--type", "Q4_0", "--split", "500K")
        renamed = self.folder / "renamed.gguf"
        sorted(self.folder.glob("cut-*.gguf"))[0].rename(renamed)
        self.assertIn("renamed.gguf", self.fails(1, "inspect", "-m", renamed))

    def test_configs_that_contradict_the_weights(self):
        whole = self.hf()
        config = json.loads((whole / "config.json").read_text())
        for change in ({"tie_word_embeddings": not config["tie_word_embeddings"]} if config["tie_word_embeddings"] else {},
                       {"attention_bias": True}, {"vocab_size": 0}, {"vocab_size": config["vocab_size"] + 1},
                       {"bos_token_id": 99999}, {"eos_token_id": [2, 99999]}, {"eos_token_id": "two"}):
            for field in change:
                with self.subTest(change=change):
                    self.assertIn(field, self.changed(whole, "config.json", {**config, **change}))
        for change in ({"bos_token": 5}, {"add_bos_token": "x"}, {"chat_template": 7}, {"eos_token": {"content": [1]}}):
            for field in change:
                with self.subTest(change=change):
                    self.assertIn(field, self.changed(whole, "tokenizer_config.json", change))

    def test_a_vocabulary_smaller_than_its_padded_rows(self):
        whole = self.hf()
        config = json.loads((whole / "config.json").read_text())
        (whole / "config.json").write_text(json.dumps({**config, "vocab_size": config["vocab_size"] - 10}))
        self.succeeds("inspect", "-m", whole)

    def changed(self, whole, name, content):
        """The refusal of a directory with another config."""
        copy = self.folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(whole, copy)
        (copy / name).write_text(json.dumps(content))
        error = self.refused(copy)
        self.assertIn(name, error)
        self.assertEqual(error.count(str(copy)), 1, error)
        return error

    def test_types_that_there_are_not(self):
        self.assertIn("Q9_Z", self.refused(self.f32, "--type", "Q9_Z", code=2))
        self.fails(2, "convert", "-m", self.f32, "-o", self.folder / "hf", "--hf", "--type", "Q4_0")
        self.refused(self.f32, "--split", "lots", code=2)

    def test_broken_gguf_files(self):
        whole = self.f32.read_bytes()
        broken = self.folder / "broken.gguf"
        for size in (0, 3, 23, 200, 5000, len(whole) // 2, len(whole) - 1):
            with self.subTest(size=size):
                broken.write_bytes(whole[:size])
                self.assertIn("broken.gguf", self.refused(broken))

    def hf(self):
        return self.convert(self.f32, "hf", "--hf", "--type", "F16")

    def test_broken_directories(self):
        whole = self.hf()
        config = json.loads((whole / "config.json").read_text())
        header_bytes = struct.unpack("<Q", (whole / "model.safetensors").read_bytes()[:8])[0]
        index = {"metadata": {}, "weight_map": {"model.norm.weight": "../model.safetensors"}}
        cases = {
            "config.json": [b"", b"[" * 1_000_000, b"{}", b"\xff\xfe", b'{"architectures": ["NoSuchModel"]}',
                            json.dumps({**config, "num_hidden_layers": 7}).encode(),
                            json.dumps({**config, "num_hidden_layers": 10**9}).encode(),
                            json.dumps({**config, "num_attention_heads": 0}).encode(),
                            json.dumps({**config, "hidden_size": -1}).encode(),
                            json.dumps({**config, "rope_scaling": {"rope_type": "no-such"}}).encode()],
            "model.safetensors": [b"", b"\xff" * 8, struct.pack("<Q", 1 << 40) + b"{}",
                                  (whole / "model.safetensors").read_bytes()[:-1],
                                  (whole / "model.safetensors").read_bytes()[:8 + header_bytes]],
            "model.safetensors.index.json": [json.dumps(index).encode(), b"{"],
            "tokenizer.model": [b"", b"\x0a\xff\xff\xff\xff\xff\x7f"],
        }
        for (name, contents) in cases.items():
            for number, content in enumerate(contents):
                with self.subTest(file=name, number=number):
                    copy = self.folder / "copy"
                    shutil.rmtree(copy, ignore_errors=True)
                    shutil.copytree(whole, copy)
                    if name == "model.safetensors.index.json":
                        (copy / "model.safetensors").rename(self.folder / "model.safetensors")
                    (copy / name).write_bytes(content)
                    self.refused(copy)


def can_be_nameless(folder):
    """Whether files without a name can be written here: then nothing is left of a killed writer."""
    try:
        os.close(os.open(folder, os.O_TMPFILE | os.O_WRONLY))
        return True
    except OSError:
        return False


if __name__ == "__main__":
    support.main()
