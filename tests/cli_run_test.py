"""venturi run: what it generates, and how every command fails."""
import json
import re
import subprocess
import tempfile
from pathlib import Path

import support
from support import MODEL, SOURCE, VENTURI, ProgramTest

LONG_PROMPT = "one two three four five six seven eight nine ten"
GOLDEN = json.loads((SOURCE / "tests/data/tiny_llama_greedy.json").read_text())


class Run(ProgramTest):
    def ids(self, *more, **options):
        outcome = self.succeeds("run", "-p", GOLDEN["prompt"], "-n", len(GOLDEN["greedy_ids"]), "--temp", 0,
                                "--ids", *more, **options)
        lines = outcome.out.splitlines()
        self.assertEqual(len(lines), 1, outcome)
        return [int(word) for word in lines[0].split()]

    def test_greedy_ids_are_those_of_pytorch(self):
        self.assertEqual(self.ids("-m", MODEL), GOLDEN["greedy_ids"])

    def test_the_embedded_model_is_the_default(self):
        with tempfile.TemporaryDirectory() as elsewhere:
            self.assertEqual(self.ids(cwd=elsewhere), GOLDEN["greedy_ids"])

    def test_threads_batch_layout_and_context_change_no_token(self):
        for flags in (["-t", 1], ["-t", 3], ["-b", 1], ["--no-repack"], ["-c", 64]):
            with self.subTest(flags=flags):
                self.assertEqual(self.ids(*flags), GOLDEN["greedy_ids"])

    def test_environment_mirrors_a_flag_and_the_flag_wins(self):
        short = {"VENTURI_CTX": "4"}
        self.fails(3, "run", "-p", LONG_PROMPT, "-n", 4, env=short)
        self.assertEqual(self.ids("-c", 64, env=short), GOLDEN["greedy_ids"])

    def test_prompt_from_a_file_and_from_standard_input(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "prompt.txt"
            path.write_text(GOLDEN["prompt"])
            common = ["run", "-n", 8, "--temp", 0, "--ids"]
            expected = GOLDEN["greedy_ids"][:8]
            for more, stdin in ((["-f", path], ""), (["-f", "-"], GOLDEN["prompt"])):
                outcome = self.succeeds(*common, *more, stdin=stdin)
                self.assertEqual([int(w) for w in outcome.out.split()], expected)

    def test_text_is_the_decoded_ids(self):
        text = self.succeeds("run", "-p", GOLDEN["prompt"], "-n", 16, "--temp", 0).out
        self.assertIn("first time the evening was the first time", text)

    def test_a_seed_decides_the_text(self):
        def draw(seed):
            return self.succeeds("run", "-p", GOLDEN["prompt"], "-n", 24, "--temp", 1, "--seed", seed, "--ids").out

        self.assertEqual(draw(1), draw(1))
        self.assertNotEqual(draw(1), draw(2))

    def test_the_report_has_speed_bound_and_memory(self):
        flags = ["run", "-p", GOLDEN["prompt"], "-n", 8, "--temp", 0]
        report = self.succeeds(*flags, "--memory", "1G").err
        for pattern in (r"\d tok/s", r"bound", r"held .*budget 1\.00 GB"):
            self.assertRegex(report, pattern)
        self.assertEqual(self.succeeds(*flags, "-q").err, "")


class Failures(ProgramTest):
    def test_wrong_command_lines_exit_with_2(self):
        for arguments in ([], ["no-such-command"], ["run", "--no-such-flag"], ["run", "-n"],
                          ["run", "-n", "many"], ["run", "-t", "0"], ["run", "-c", "-5"],
                          ["run", "-p", "a", "-f", "b"], ["run", "--memory", "lots", "-p", "a"]):
            with self.subTest(arguments=arguments):
                self.fails(2, *arguments)

    def test_a_missing_file_exits_with_1_and_is_named(self):
        for command in (["run", "-p", "a"], ["bench"], ["inspect"], ["tokenize", "-p", "a"], ["eval", "-p", "a"]):
            with self.subTest(command=command):
                message = self.fails(1, *command, "-m", "/no/such/model.gguf")
                self.assertIn("/no/such/model.gguf", message)

    def test_a_file_that_is_no_model_exits_with_1_and_is_named(self):
        with tempfile.TemporaryDirectory() as folder:
            for name, content in (("empty.gguf", b""), ("text.gguf", b"It was the best of times." * 40),
                                  ("cut.gguf", MODEL.read_bytes()[:100_000]),
                                  ("tail.gguf", MODEL.read_bytes()[:-1000])):
                path = Path(folder) / name
                path.write_bytes(content)
                with self.subTest(name=name):
                    self.assertIn(name, self.fails(1, "run", "-m", path, "-p", "a"))
                    self.fails(1, "inspect", "-m", path)

    def test_output_that_cannot_be_written_is_a_failure(self):
        for command in (["run", "-q", "-n", "4"], ["inspect"], ["tokenize", "-p", "a", "--ids"]):
            with self.subTest(command=command), open("/dev/full", "w") as full:
                result = subprocess.run([VENTURI, *command, "-m", MODEL], stdout=full, stderr=subprocess.PIPE,
                                        env=support.clean_environment())
                self.assertEqual(result.returncode, 1)
                self.assertIn(b"standard output", result.stderr)

    def test_a_prompt_longer_than_the_context_is_refused(self):
        self.assertIn("-c", self.fails(3, "run", "-p", LONG_PROMPT, "-c", 4, "-n", 4))


class Help(ProgramTest):
    def commands(self):
        text = self.succeeds("--help").out
        block = re.search(r"Subcommands:\n((?:  .*\n)+)", text).group(1)
        return re.findall(r"^  (\S+)", block, re.M)

    def test_help_lists_every_command_and_the_exit_codes(self):
        sources = sorted(p.stem for p in (SOURCE / "src/cli/commands").glob("*.cc") if not p.stem.endswith("_test"))
        self.assertEqual(sorted(self.commands()), sources)
        self.assertIn("Exit codes", self.succeeds("--help").out)

    def test_every_flag_says_what_it_is(self):
        for command in self.commands():
            text = self.succeeds(command, "--help").out
            # An entry begins at a dash in column 2; its words begin in column 30, there or on the next line.
            for entry in re.findall(r"^  -.*(?:\n {30}.*)*", text, re.M):
                with self.subTest(command=command, entry=entry):
                    words = " ".join(line[30:] for line in entry.splitlines())
                    self.assertRegex(words, "[A-Za-z]{3}")

    def test_version(self):
        self.assertRegex(self.succeeds("--version").out, r"^venturi \d+\.\d+\.\d+\n$")


if __name__ == "__main__":
    support.main()
