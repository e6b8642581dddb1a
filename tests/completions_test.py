"""The completion scripts, in the shells they are for."""
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

import support
from support import ProgramTest

# Calls the completion function as bash would for the words of $@, and prints what it offers.
BASH_DRIVER = r"""
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_venturi
printf '%s\n' "${COMPREPLY[@]}"
"""


class Completions(ProgramTest):
    def script(self, shell):
        return self.succeeds("completions", shell).out

    def test_bash_completes_commands_flags_and_files(self):
        with tempfile.TemporaryDirectory() as folder:
            script = Path(folder) / "venturi.bash"
            script.write_text(self.script("bash"))
            (Path(folder) / "a model.gguf").touch()

            def offers(*words):
                done = subprocess.run(["bash", "-c", BASH_DRIVER, "bash", script, "venturi", *words], check=True,
                                      capture_output=True, text=True, cwd=folder)
                self.assertEqual(done.stderr, "")
                return sorted(done.stdout.split("\n")[:-1])

            self.assertEqual(offers("tok"), ["tokenize"])
            self.assertIn("run", offers(""))
            self.assertIn("--version", offers("--"))
            self.assertEqual(offers("run", "--no-"), ["--no-guesses", "--no-repack", "--no-sparse"])
            self.assertEqual(offers("run", "-m", "x.gguf", "--thr"), ["--threads"])
            self.assertEqual(offers("run", "-m", "a"), ["a model.gguf"])
            self.assertEqual(offers("run", "--threads", ""), [""])
            self.assertEqual(offers("completions", "z"), ["zsh"])
            self.assertNotIn("--temp", offers("inspect", "--"))

    def test_every_flag_that_help_names_is_offered(self):
        script = self.script("bash")
        commands = re.search(r"words='([a-z ]+)", script).group(1).split()
        self.assertGreater(len(commands), 5)
        for command in commands:
            words = re.search(rf"^    {command}\)\n      words='(.*)'", script, re.M).group(1).split()
            for flag in re.findall(r"^  (-\S+)", self.succeeds(command, "--help").out, re.M):
                for name in flag.split(","):
                    with self.subTest(command=command, flag=name):
                        self.assertIn(name, words)

    def test_each_shell_accepts_its_script(self):
        for shell, check in (("bash", ["-n"]), ("zsh", ["-n"]), ("fish", ["--no-execute"])):
            with self.subTest(shell=shell), tempfile.TemporaryDirectory() as folder:
                script = Path(folder) / "script"
                script.write_text(self.script(shell))
                self.assertIn("tokenize", script.read_text())
                if shutil.which(shell) is None:
                    continue
                done = subprocess.run([shell, *check, script], capture_output=True, text=True)
                self.assertEqual((done.returncode, done.stderr), (0, ""))

    @unittest.skipIf(shutil.which("fish") is None, "no fish")
    def test_fish_completes(self):
        with tempfile.TemporaryDirectory() as folder:
            script = Path(folder) / "venturi.fish"
            script.write_text(self.script("fish"))
            for line, expected in (("venturi tok", "tokenize"), ("venturi run --no-r", "--no-repack"),
                                   ("venturi completions z", "zsh")):
                done = subprocess.run(["fish", "--no-config", "-c", f'source {script}; complete -C "{line}"'],
                                      capture_output=True, text=True, env=support.clean_environment({"HOME": folder}))
                self.assertEqual([row.split("\t")[0] for row in done.stdout.splitlines()], [expected], done)

    @unittest.skipIf(shutil.which("zsh") is None, "no zsh")
    def test_zsh_loads_it_into_its_completion_system(self):
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "_venturi").write_text(self.script("zsh"))
            commands = f'fpath=({folder} $fpath); autoload -Uz compinit; compinit -u -D; print -- $_comps[venturi]'
            done = subprocess.run(["zsh", "-f", "-c", commands], capture_output=True, text=True,
                                  env=support.clean_environment({"HOME": folder}))
            self.assertEqual(done.stdout.strip(), "_venturi", done)

    def test_another_shell_is_refused(self):
        self.fails(2, "completions", "tcsh")
        self.fails(2, "completions")


if __name__ == "__main__":
    support.main()
