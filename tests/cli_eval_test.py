"""venturi eval: perplexities of the embedded model against those of llama.cpp and PyTorch."""
import json
import math
import re
import tempfile
import unittest

import support
from support import MODEL, SHARED, ProgramTest

# text, bytes of it, perplexity by llama.cpp with the same file, and tokens scored
REFERENCES = (("books-valid.txt", 400_000, 84.3111, 56388), ("wikitext2-valid.txt", 300_000, 518.638, 58039))
F16_REFERENCES = (("books-valid.txt", 400_000, 84.2366),)


@unittest.skipIf(support.OPTIONS.sanitized, "minutes under a sanitizer")
class Perplexity(ProgramTest):
    def evaluate(self, model, name, size):
        with tempfile.TemporaryDirectory() as folder:
            text = support.shared_text(name, size, folder)
            return self.json_of("eval", "-m", model, "-f", text, "--ctx", 256, "--json")

    def check(self, result, perplexity):
        self.assertAlmostEqual(result["perplexity"] / perplexity, 1, delta=0.001)
        self.assertAlmostEqual(math.exp(result["nll"]), result["perplexity"], delta=1e-6 * perplexity)

    def test_q8_0_is_within_a_thousandth_of_the_references(self):
        for name, size, perplexity, tokens in REFERENCES:
            with self.subTest(text=name):
                result = self.evaluate(MODEL, name, size)
                self.check(result, perplexity)
                self.assertEqual(result["tokens"], tokens)

    def test_f16_is_within_a_thousandth_of_the_reference(self):
        model = SHARED / "data/tiny-llama/tiny-llama-f16.gguf"
        if not model.exists():
            self.skipTest(f"no {model}")
        for name, size, perplexity in F16_REFERENCES:
            with self.subTest(text=name):
                self.check(self.evaluate(model, name, size), perplexity)


class Forms(ProgramTest):
    TEXT = "It was the best of times, and the old gentleman was a little more than a man. " * 40

    def test_json_has_the_fields_and_counts_the_scored_tokens(self):
        result = self.json_of("eval", "-m", MODEL, "-p", self.TEXT, "--ctx", 64, "--json")
        for field in ("perplexity", "nll", "tokens", "windows"):
            self.assertIn(field, result)
        # Positions ctx/2 to ctx-2 of every whole window are scored.
        self.assertEqual(result["tokens"], result["windows"] * 31)
        self.assertGreater(result["windows"], 5)
        self.assertGreater(result["perplexity"], 1)

    def test_a_model_does_not_differ_from_itself(self):
        result = self.json_of("eval", "-m", MODEL, "--base", MODEL, "-p", self.TEXT, "--ctx", 64, "--json")
        self.assertEqual(result["kl_divergence"], 0)
        self.assertEqual(result["top_token_agreement"], 1)

    def test_f16_differs_a_little(self):
        base = SHARED / "data/tiny-llama/tiny-llama-f16.gguf"
        if not base.exists():
            self.skipTest(f"no {base}")
        result = self.json_of("eval", "-m", MODEL, "--base", base, "-p", self.TEXT, "--ctx", 64, "--json")
        self.assertGreater(result["kl_divergence"], 0)
        self.assertLess(result["kl_divergence"], 0.01)
        self.assertGreater(result["top_token_agreement"], 0.9)

    def test_threads_change_no_bit(self):
        results = [self.json_of("eval", "-m", MODEL, "-p", self.TEXT, "--ctx", 64, "--json", "-t", t)
                   for t in (1, 2)]
        self.assertEqual(results[0], results[1])

    def test_windows_as_other_commands_spell_contexts(self):
        text = self.TEXT * 20
        self.assertEqual(self.json_of("eval", "-p", text, "--ctx", "1k", "--windows", 1, "--json"),
                         self.json_of("eval", "-p", text, "--json", "--windows", 1, env={"VENTURI_CTX": "1024"}))
        for flags in (["--windows", 0], ["--windows", -1], ["--ctx", 3], ["--ctx", 9999999999999]):
            self.fails(2, "eval", "-p", text, *flags)

    def test_a_window_longer_than_the_text_is_told_before_the_model_is_loaded(self):
        self.assertIn("tokens", self.fails(2, "eval", "-p", "too short", "--ctx", 1 << 29))

    def test_two_models_share_one_budget(self):
        flags = ["eval", "-m", MODEL, "--base", MODEL, "-p", self.TEXT, "--ctx", 64, "--windows", 2, "--json"]
        free = self.json_of(*flags)
        outcome = self.succeeds(*flags, "--memory", "7M")
        self.assertEqual(json.loads(outcome.out), free)
        if not support.OPTIONS.sanitized:
            self.assertLess(outcome.peak_rss, 7e6 + 64e6)
        message = self.fails(3, *flags, "--memory", "600k")
        enough = re.search(r"--memory (\d+M)", message).group(1)
        self.assertEqual(self.json_of(*flags, "--memory", enough), free)

    def test_too_short_a_text_is_refused(self):
        self.fails(2, "eval", "-m", MODEL, "-p", "too short", "--ctx", 64)


if __name__ == "__main__":
    support.main()
