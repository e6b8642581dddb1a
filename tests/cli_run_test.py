"""venturi run: what it generates, and how every command fails."""
import json
import os
import re
import resource
import subprocess
import tempfile
import threading
import unittest
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
        self.fails(2, "run", "-p", LONG_PROMPT, "-n", 4, env=short)
        self.assertEqual(self.ids("-c", 64, env=short), GOLDEN["greedy_ids"])

    def test_a_mirror_is_of_the_chosen_command_alone(self):
        # A number for bench's -p, 8k for eval's --ctx, --memory that inspect has for --routing only.
        self.assertEqual(self.ids(env={"VENTURI_PROMPT": "The"}), GOLDEN["greedy_ids"])
        self.succeeds("bench", "-r", 1, "-n", 0, "-c", 8, env={"VENTURI_PROMPT": "The", "VENTURI_N_PROMPT": "8"})
        self.assertIn("VENTURI_N_PROMPT", self.fails(2, "bench", env={"VENTURI_N_PROMPT": "The"}))
        self.succeeds("inspect", "--json", env={"VENTURI_MEMORY": "2G", "VENTURI_CTX": "8k", "VENTURI_PROMPT": "The"})
        self.succeeds("tokenize", "-p", "a", env={"VENTURI_CTX": "8k"})

    def test_a_mirror_gives_way_to_flags_that_exclude_its_flag(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "prompt.txt"
            path.write_text(GOLDEN["prompt"])
            common = ["run", "-n", 8, "--temp", 0, "--ids"]
            expected = GOLDEN["greedy_ids"][:8]
            for more, env in ((["-f", path], {"VENTURI_PROMPT": "another"}), (["-p", GOLDEN["prompt"]], {"VENTURI_FILE": "/no/such"}),
                              ([], {"VENTURI_FILE": str(path)}), ([], {"VENTURI_PROMPT": GOLDEN["prompt"], "VENTURI_FILE": "/no/such"})):
                with self.subTest(flags=more, env=env):
                    outcome = self.succeeds(*common, *more, env=env)
                    self.assertEqual([int(w) for w in outcome.out.split()], expected)

    def test_a_mirror_stands_for_a_required_flag(self):
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "out.gguf"
            self.succeeds("convert", "-m", MODEL, env={"VENTURI_OUTPUT": str(out)})
            self.assertTrue(out.exists())

    def test_prompt_from_a_file_and_from_standard_input(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "prompt.txt"
            path.write_text(GOLDEN["prompt"])
            common = ["run", "-n", 8, "--temp", 0, "--ids"]
            expected = GOLDEN["greedy_ids"][:8]
            for more, stdin in ((["-f", path], ""), (["-f", "-"], GOLDEN["prompt"]), ([], GOLDEN["prompt"]), (["-p", GOLDEN["prompt"]], "no")):
                outcome = self.succeeds(*common, *more, stdin=stdin)
                self.assertEqual([int(w) for w in outcome.out.split()], expected)

    def test_a_pipe_that_nobody_writes_to_is_not_waited_for(self):
        ends = os.pipe()
        try:
            process = subprocess.run([str(VENTURI), "run", "-n", "1"], stdin=ends[0], capture_output=True, text=True, timeout=60,
                                     env=support.clean_environment())
        finally:
            for end in ends:
                os.close(end)
        self.assertEqual(process.returncode, 0, process.stderr)

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
        self.assertIn("no rate", self.succeeds("run", "-p", "The", "-n", 1).err)

    def test_a_context_beyond_the_training_is_told(self):
        flags = ["run", "-p", "The", "-n", 2, "--temp", 0]
        self.assertRegex(self.succeeds(*flags, "-c", 512).err, "trained for 256")
        self.assertNotIn("trained", self.succeeds(*flags, "-c", 256).err)

    def test_a_form_that_is_cut_is_told(self):
        flags = ["run", "-p", "The", "--temp", 0, "-q", "--grammar", 'root ::= "the house and the road"']
        self.assertIn("before its form was whole (-n)", self.succeeds(*flags, "-n", 2).err)
        self.assertEqual(self.succeeds(*flags, "-n", 40).err, "")


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
        self.assertIn("-c", self.fails(2, "run", "-p", LONG_PROMPT, "-c", 4, "-n", 4))

    def test_a_context_that_the_budget_chose_is_the_budgets_fault(self):
        # So small that no more than a few pages of state fit.
        text = "one two three " * 4000
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "prompt.txt"
            path.write_text(text)
            self.assertIn("context holds", self.fails(3, "run", "--memory", "2M", "-f", path, "-n", 4))
            self.assertIn("context holds", self.fails(2, "run", "-c", 64, "-f", path, "-n", 4))

    @unittest.skipIf(support.OPTIONS.sanitized, "memory of its own")
    def test_a_long_prompt_is_refused_before_it_takes_memory(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "long.txt"
            path.write_text("a" * 6_000_000)
            outcome = support.venturi("run", "--memory", "4M", "-f", path, "-n", 4)
            self.assertEqual(outcome.code, 3, outcome)
            self.assertLess(outcome.peak_rss, 4e6 + 64e6)
            # Of a text that must be tokenized the tokenizer's own memory counts.
            outcome = support.venturi("eval", "--memory", "4M", "-f", path, "--ctx", 64)
            self.assertEqual(outcome.code, 3, outcome)
            self.assertIn("tokenizer", outcome.err)
            self.assertLess(outcome.peak_rss, 4e6 + 64e6)
            path.write_text("\n".join(["It was the best of times, it was the worst of times."] * 2000))
            self.succeeds("eval", "--memory", "4M", "-f", path, "--ctx", 64, "--windows", 1)

    def test_an_endless_prompt_is_bounded(self):
        self.fails(2, "run", "-f", "/dev/zero", "-n", 4)

    def test_a_lack_of_memory_is_one_line(self):
        def limit():
            resource.setrlimit(resource.RLIMIT_AS, (600 << 20, 600 << 20))

        if support.OPTIONS.sanitized:
            self.skipTest("address space is the sanitizer's")
        self.fails(1, "tokenize", "-f", "/dev/zero", before_exec=limit)

    def test_an_unknown_command_is_named_beside_those_that_there_are(self):
        message = self.fails(2, "frobnicate", "-m", MODEL)
        self.assertIn("'frobnicate'", message)
        self.assertIn("tokenize", message)

    def test_numbers_beyond_their_type(self):
        self.fails(2, "run", "-p", "a", "--seed", 2**64)
        self.succeeds("run", "-p", "a", "-n", 1, "--seed", 2**64 - 1)
        self.fails(2, "bench", "-p", 600, "-c", 520, "-b", 64)

    def test_a_sidecar_that_is_not_there(self):
        self.assertIn("nosuch", self.fails(1, "run", "-p", "a", "--sidecar", "nosuch"))

    def test_what_is_no_regular_file_is_refused(self):
        with tempfile.TemporaryDirectory() as folder:
            pipe = Path(folder) / "pipe.gguf"
            os.mkfifo(pipe)
            for command in (["run", "-p", "a"], ["inspect"], ["tokenize", "-p", "a"]):
                self.assertIn("regular file", self.fails(1, *command, "-m", pipe, timeout=20))
            self.assertIn("/dev/null", self.fails(1, "inspect", "-m", "/dev/null"))
            os.mkfifo(Path(folder) / "config.json")
            self.assertIn("regular file", self.fails(1, "inspect", "-m", folder, timeout=20))

    def test_a_prompt_from_a_pipe(self):
        with tempfile.TemporaryDirectory() as folder:
            pipe = Path(folder) / "pipe"
            os.mkfifo(pipe)
            writer = threading.Thread(target=lambda: pipe.write_text("The"))
            writer.start()
            self.succeeds("run", "-f", pipe, "-n", 1, timeout=60)
            writer.join()

    def damaged(self, folder, change):
        """The embedded model with `change` made to its bytes."""
        path = Path(folder) / "changed.gguf"
        path.write_bytes(change(MODEL.read_bytes()))
        return path

    def test_logits_that_are_no_numbers_are_the_models_fault(self):
        def poison(content):
            # The last tensors' scales: every f16 of the file's tail is made NaN.
            return content[:-65536] + b"\xff\x7f" * 32768

        with tempfile.TemporaryDirectory() as folder:
            outcome = support.venturi("run", "-m", self.damaged(folder, poison), "-p", "The", "-n", 4)
            self.assertEqual(outcome.code, 1, outcome)
            self.assertIn("damaged", outcome.err)

    def test_control_characters_of_a_file_are_shown_escaped(self):
        key, evil = b"general.name", b"gen\x1b[31m.nam"

        def rename(content):
            self.assertEqual(content.count(key), 1)
            return content.replace(key, evil[:len(key)])

        def architecture(content):
            return content.replace(b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0\x1b[31m", 1)

        with tempfile.TemporaryDirectory() as folder:
            out = self.succeeds("inspect", "-m", self.damaged(folder, rename)).out
            self.assertNotIn("\x1b", out)
            self.assertIn("\\x1b", out)
            message = self.fails(1, "run", "-m", self.damaged(folder, architecture), "-p", "a")
            self.assertNotIn("\x1b", message)
            self.assertIn("\\x1b", message)

    def test_messages_name_the_file_once(self):
        def without(key):
            return lambda content: content.replace(key, b"x" * len(key))

        with tempfile.TemporaryDirectory() as folder:
            for key, command in ((b"general.architecture", ["run", "-p", "a"]), (b"tokenizer.ggml.model", ["run", "-p", "a"]),
                                 (b"tokenizer.ggml.model", ["tokenize", "-p", "a"]), (b"llama.block_count", ["run", "-p", "a"])):
                with self.subTest(key=key, command=command):
                    message = self.fails(1, *command, "-m", self.damaged(folder, without(key)))
                    self.assertEqual(message.count("changed.gguf"), 1, message)
                    self.assertIn(key.decode(), message)


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
