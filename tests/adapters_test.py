"""LoRA adapters through the program: what --lora takes, changes and refuses."""
import json
import shutil
import tempfile
import unittest
from pathlib import Path

import support
from support import SOURCE, ProgramTest

BASE = SOURCE / "tests/data/models/llama-plain.gguf"
ADAPTERS = SOURCE / "tests/data/adapters"
ALL, ATTENTION = ADAPTERS / "llama-all", ADAPTERS / "llama-attention"


class Adapters(ProgramTest):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def ids(self, *flags, prompt="the house"):
        return self.succeeds("run", "-m", BASE, "-p", prompt, "-n", 12, "--temp", 0, "--ignore-eos", "--ids", "-q", *flags).out

    def test_run_goes_through_the_adapter(self):
        plain, adapted = self.ids(), self.ids("--lora", ALL)
        self.assertNotEqual(plain, adapted)
        self.assertNotEqual(adapted, self.ids("--lora", ATTENTION))
        self.assertEqual(adapted, self.ids("--lora", f"{ALL}=1"))
        self.assertEqual(plain, self.ids("--lora", f"{ALL}=0"))
        self.assertEqual(adapted, self.ids("--lora", ALL, "-t", 1, "-b", 2, "--lookup"))
        # The same adapter in GGUF is the reader's test; as a Hugging Face base it is this one's.
        converted = self.folder / "hf"
        self.succeeds("convert", "-m", BASE, "-o", converted, "--hf", "--type", "F32")
        self.assertEqual(adapted, self.succeeds("run", "-m", converted, "-p", "the house", "-n", 12, "--temp", 0, "--ignore-eos",
                                                "--ids", "-q", "--lora", ALL).out)

    def test_eval_says_how_far_it_moves_the_model(self):
        text = self.folder / "text"
        text.write_text("the house by the river and the road " * 40)
        flags = ["eval", "-m", BASE, "-f", text, "--ctx", 32, "--windows", 4, "--base", BASE, "--json"]
        self.assertLess(abs(self.json_of(*flags)["kl_divergence"]), 1e-6)
        self.assertGreater(self.json_of(*flags, "--lora", ALL)["kl_divergence"], 0.05)
        self.assertLess(abs(self.json_of(*flags, "--lora", f"{ALL}=0")["kl_divergence"]), 1e-6)

    def test_bench_and_the_budget(self):
        flags = ["bench", "-m", BASE, "-p", 8, "-n", 4, "-r", 1, "-c", 64, "--streams", 3, "--json"]
        self.json_of(*flags, "--lora", ALL, "--lora", ATTENTION)
        self.json_of(*flags, "--lora", ALL, "--memory", "20M")
        self.assertIn("adapters", self.fails(3, "run", "-m", BASE, "-p", "a", "--lora", ALL, "--memory", "100k"))
        report = self.succeeds("run", "-m", BASE, "-p", "a", "-n", 3, "--lora", ALL).err
        self.assertIn("adapters", report)

    def test_chat_takes_one(self):
        flags = ["chat", "-m", BASE, "-n", 4, "--temp", 0, "-c", 128]
        self.assertNotEqual(self.succeeds(*flags, stdin="Hi\n").out, self.succeeds(*flags, "--lora", ALL, stdin="Hi\n").out)

    def changed(self, **fields):
        folder = self.folder / "changed"
        shutil.copytree(ALL, folder, dirs_exist_ok=True)
        config = json.loads((ALL / "adapter_config.json").read_text())
        (folder / "adapter_config.json").write_text(json.dumps({**config, **fields}))
        return folder

    def test_what_cannot_be_used_is_named(self):
        def refusal(path, code=1, base=BASE):
            return self.fails(code, "run", "-m", base, "-p", "a", "--lora", path)
        self.assertIn("use_dora", refusal(self.changed(use_dora=True)))
        self.assertIn("modules_to_save", refusal(self.changed(modules_to_save=["lm_head"])))
        self.assertIn("'bias'", refusal(self.changed(bias="all")))
        self.assertIn("pissa", refusal(self.changed(init_lora_weights="pissa")))
        self.assertIn("of_next_year", refusal(self.changed(a_field_of_next_year=1)))
        self.assertIn("says rank 6", refusal(self.changed(r=6)))
        self.assertIn("another model", refusal(ALL, code=1, base=SOURCE / "tests/data/models/qwen2-plain.gguf"))
        self.assertIn("adapter_config.json", refusal(self.folder))
        self.assertIn("no-such", refusal("no-such"))
        self.assertIn("general.type", refusal(BASE))
        cut = self.changed()
        weights = (ALL / "adapter_model.safetensors").read_bytes()
        (cut / "adapter_model.safetensors").write_bytes(weights[:-100])
        self.assertIn("truncated", refusal(cut))


if __name__ == "__main__":
    support.main()
