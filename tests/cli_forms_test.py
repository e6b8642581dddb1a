"""tokenize, inspect, bench and probe: the forms that other programs read."""
import json
import math
import tempfile
from pathlib import Path

import support
from support import MODEL, OPTIONS, SHARED, SOURCE, ProgramTest

GOLDEN = json.loads((SOURCE / "tests/data/tiny_llama_greedy.json").read_text())
VOCAB = SHARED / "data" / "vocab"
SEPARATOR = "\n__ggml_vocab_test__\n"


class Tokenize(ProgramTest):
    def ids(self, text, *flags, model=MODEL):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "text"
            path.write_text(text)
            out = self.succeeds("tokenize", "-m", model, "--ids", *flags, "-f", path).out
        self.assertEqual(out.count("\n"), 1, out)
        return [int(word) for word in out.split()]

    def test_ids_with_and_without_bos(self):
        self.assertEqual(self.ids(GOLDEN["prompt"]), GOLDEN["prompt_ids"])
        self.assertEqual(self.ids(GOLDEN["prompt"], "--no-bos"), GOLDEN["prompt_ids"][1:])
        self.assertEqual(self.ids("", "--no-bos"), [])

    def test_a_text_of_many_lines_is_one_line_of_ids(self):
        text = "It was\nthe best\r\n\n\tof times.\n" * 50
        self.assertGreater(len(self.ids(text, "--no-bos")), 300)

    def test_control_tokens_in_the_text_stay_text_unless_asked(self):
        self.assertNotIn(2, self.ids("a</s>b", "--no-bos"))
        self.assertIn(2, self.ids("a</s>b", "--no-bos", "--special"))

    def test_json_and_plain_forms_tell_the_same_ids(self):
        rows = self.json_of("tokenize", "-m", MODEL, "-p", GOLDEN["prompt"], "--json")
        self.assertEqual([row["id"] for row in rows], GOLDEN["prompt_ids"])
        lines = self.succeeds("tokenize", "-m", MODEL, "-p", GOLDEN["prompt"]).out.splitlines()
        self.assertEqual([int(line.split()[0]) for line in lines], GOLDEN["prompt_ids"])

    def test_files_that_hold_a_vocabulary_only(self):
        models = sorted(VOCAB.glob("ggml-vocab-*.gguf"))
        if not models:
            self.skipTest(f"no {VOCAB}")
        for model in models:
            texts = Path(f"{model}.inp").read_text().split(SEPARATOR)
            expected = [list(map(int, line.split())) for line in Path(f"{model}.out").read_text().splitlines()]
            # A text or two of each here; all of them are a unit test of the tokenizers.
            for i in (len(texts) // 2, len(texts) - 2):
                with self.subTest(model=model.name, text=texts[i]):
                    self.assertEqual(self.ids(texts[i], "--no-bos", model=model), expected[i])


class FixedForms(ProgramTest):
    """The command lines that other programs call, to the letter; they do not change."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.text = Path(folder.name) / "text"
        words = [GOLDEN["prompt"], "It was the best of times, it was the worst of times."]
        self.text.write_text("\n".join(words * 120) + "\n")

    def test_the_binary_is_where_it_is_said(self):
        if OPTIONS.build != SOURCE / "build" / "release":
            self.skipTest("another build")
        self.assertTrue((SOURCE / "build/release/venturi").is_file())

    def test_tokenize(self):
        out = self.succeeds("tokenize", "-m", MODEL, "--ids", "--no-bos", "-f", self.text).out
        self.assertRegex(out, r"^\d+( \d+)*\n$")

    def test_eval(self):
        result = self.json_of("eval", "-m", MODEL, "-f", self.text, "--ctx", 512, "--json")
        ids = self.succeeds("tokenize", "-m", MODEL, "--ids", "--no-bos", "-f", self.text).out.split()
        windows = (len(ids) + 1) // 512
        self.assertGreater(windows, 1)
        # Positions ctx/2 to ctx-2 of each window.
        self.assertEqual(result["tokens"], windows * 255)
        self.assertAlmostEqual(math.exp(result["nll"]), result["perplexity"], delta=1e-9 * result["perplexity"])

    def test_bench(self):
        flags = ["bench", "-m", MODEL, "-t", 2, "-p", 512, "-n", 64, "-r", 7, "--json"]
        if OPTIONS.sanitized:
            self.skipTest("slow")
        results = self.json_of(*flags)
        self.assertEqual([r["test"] for r in results], ["pp512", "tg64"])
        for r in results:
            self.assertEqual(r["repetitions"], 7)
            self.assertGreater(r["tokens_per_second"], 0)
            self.assertGreater(r["bound_tokens_per_second"], 0)

    def test_run(self):
        out = self.succeeds("run", "-m", MODEL, "-p", GOLDEN["prompt"], "-n", 5, "--temp", 0, "--ids").out
        self.assertEqual([int(word) for word in out.split()], GOLDEN["greedy_ids"][:5])
        self.assertEqual(out.count("\n"), 1)

    def test_inspect(self):
        self.assertIsInstance(self.json_of("inspect", "-m", MODEL, "--json"), dict)


class Inspect(ProgramTest):
    def test_json_adds_up(self):
        result = self.json_of("inspect", "-m", MODEL, "--json")
        self.assertEqual(result["parameters"], 3148224)
        self.assertEqual(sum(t["bytes"] for t in result["tensors"]), result["tensor_bytes"])
        self.assertEqual(sum(t["tensors"] for t in result["types"].values()), len(result["tensors"]))
        self.assertLess(result["tensor_bytes"], MODEL.stat().st_size)
        self.assertEqual(result["metadata"]["general.architecture"], "llama")
        self.assertEqual(result["metadata"]["llama.block_count"], 6)
        self.assertEqual(result["metadata"]["tokenizer.ggml.tokens"]["count"], 4096)
        table = {t["name"]: t for t in result["tensors"]}["token_embd.weight"]
        self.assertEqual(table["dims"], [192, 4096])
        self.assertEqual(table["type"], "Q8_0")

    def test_every_golden_model_can_be_inspected(self):
        for model in sorted((SOURCE / "tests/data/models").glob("*.gguf")):
            with self.subTest(model=model.name):
                result = self.json_of("inspect", "-m", model, "--json")
                self.assertIn(result["metadata"]["general.architecture"], model.name)

    def test_text_names_types_and_tensors(self):
        text = self.succeeds("inspect", "-m", MODEL, "--tensors").out
        for word in ("Q8_0", "llama.block_count = 6", "blk.5.ffn_down.weight"):
            self.assertIn(word, text)


class Bench(ProgramTest):
    def bench(self, *flags):
        return self.json_of("bench", "-m", MODEL, "-t", 2, "-r", 2, "--json", *flags)

    def test_json_fields(self):
        results = self.bench("-p", 16, "-n", 4)
        self.assertEqual([r["test"] for r in results], ["pp16", "tg4"])
        for r in results:
            self.assertEqual(r["repetitions"], 2)
            for field in ("tokens_per_second", "bound_tokens_per_second"):
                self.assertIsInstance(r[field], float)
                self.assertGreater(r[field], 0)

    def test_zero_leaves_a_test_out(self):
        self.assertEqual([r["test"] for r in self.bench("-p", 0, "-n", 4)], ["tg4"])
        self.assertEqual([r["test"] for r in self.bench("-p", 16, "-n", 0)], ["pp16"])
        self.assertEqual(self.bench("-p", 0, "-n", 0), [])

    def test_phases_have_their_time_and_the_idealised_one(self):
        for r, phase, tokens in zip(self.bench("-p", 16, "-n", 4), ("prefill", "decode"), (16, 4)):
            self.assertEqual(r["phase"], phase)
            self.assertAlmostEqual(r["seconds"] * r["tokens_per_second"], tokens, places=6)
            self.assertAlmostEqual(r["bound_seconds"] * r["bound_tokens_per_second"], tokens, places=6)
            self.assertGreater(r["share_of_bound"], 0)

    def test_operators_have_their_time_and_their_bound(self):
        for result in self.bench("-p", 16, "-n", 4, "--ops"):
            ops = result["ops"]
            for op in ("linear", "attend"):
                self.assertGreater(ops[op]["calls"], 0)
                self.assertGreater(ops[op]["seconds"], 0)
                self.assertGreater(ops[op]["bound_seconds"], 0)
                self.assertAlmostEqual(ops[op]["share_of_bound"], ops[op]["bound_seconds"] / ops[op]["seconds"])
            times = [op["share_of_time"] for op in ops.values()]
            self.assertTrue(0.2 < sum(times) <= 1.0001, times)

    def markdown(self, text):
        """Tables as lists of rows of cells; what is no Markdown table fails, but for the line that explains shares
        above 100 %, which a busy machine can have."""
        tables = []
        for block in text.strip().split("\n\n"):
            if block.startswith("More than 100 %:"):
                continue
            head, rule, *rows = block.splitlines()
            self.assertRegex(rule, r"^\|(-{3,}\|)+$")
            cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in (head, *rows)]
            self.assertEqual({len(row) for row in cells}, {rule.count("|") - 1})
            tables.append(cells)
        return tables

    def test_markdown_has_a_row_per_test(self):
        flags = ["bench", "-m", MODEL, "-p", 16, "-n", 4, "-r", 1]
        (table,) = self.markdown(self.succeeds(*flags, "--md").out)
        self.assertEqual([row[0] for row in table], ["test", "pp16", "tg4"])
        for column in ("tok/s", "bound tok/s", "share of bound", "ms", "idealised ms"):
            self.assertIn(column, table[0])
        tables = self.markdown(self.succeeds(*flags, "--md", "--ops").out)
        self.assertEqual([table[0][0] for table in tables], ["test", "pp16 op", "tg4 op"])
        for table in tables[1:]:
            self.assertEqual(table[0][1:], ["calls", "ms", "share of time", "idealised ms", "share of bound"])
            self.assertIn("linear", [row[0] for row in table])

    def test_json_and_markdown_exclude_each_other(self):
        self.fails(2, "bench", "-m", MODEL, "--json", "--md")


class Probe(ProgramTest):
    def test_json_fields(self):
        result = self.json_of("probe", "-t", 1, "-r", 2, "--json", "--no-disk", "--no-kernels")
        self.assertEqual(result["threads"], 1)
        for field in ("read_bytes_per_second", "int8_macs_per_second", "f32_macs_per_second"):
            spread = result[field]
            self.assertGreater(spread["low"], 1e6)
            self.assertLessEqual(spread["low"], spread["median"])
            self.assertLessEqual(spread["median"], spread["high"])


if __name__ == "__main__":
    support.main()
