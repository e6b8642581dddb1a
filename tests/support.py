"""What the end-to-end tests share: where things are, and running the program."""
import argparse
import json
import lzma
import os
import signal
import subprocess
import sys
import tempfile
import threading
import unittest
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent
SHARED = SOURCE.parent / "shared"  # data that is not the project's; tests skip where it is absent
MODEL = SOURCE / "models" / "tiny-llama-q8_0.gguf"

_parser = argparse.ArgumentParser()
_parser.add_argument("--build", type=Path, default=SOURCE / "build" / "release")
_parser.add_argument("--sanitized", action="store_true", help="slow and memory-hungry build")
OPTIONS, _rest = _parser.parse_known_args()
VENTURI = OPTIONS.build / "venturi"


class Outcome:
    def __init__(self, code, out, err, peak_rss):
        self.code, self.out, self.err, self.peak_rss = code, out, err, peak_rss

    def __repr__(self):
        return f"exit code {self.code}\nstdout: {self.out[-2000:]}\nstderr: {self.err[-2000:]}"


def clean_environment(extra=None):
    """Without VENTURI_* variables, which would act as flags."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("VENTURI_")}
    return {**kept, **(extra or {})}


def venturi(*arguments, env=None, before_exec=None, stdin="", cwd=None, timeout=600):
    """Runs the program to its end. peak_rss is in bytes."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err, \
            tempfile.TemporaryFile("w+") as source:
        source.write(stdin)
        source.seek(0)
        process = subprocess.Popen([str(VENTURI), *map(str, arguments)], stdin=source, stdout=out, stderr=err,
                                   env=clean_environment(env), preexec_fn=before_exec, cwd=cwd)
        code, usage = _wait(process, timeout)
        out.seek(0)
        err.seek(0)
        return Outcome(code, out.read(), err.read(), usage.ru_maxrss * 1024)


def _wait(process, timeout):
    """Exit code and the resource usage of this one child."""
    timer = threading.Timer(timeout, lambda: os.kill(process.pid, signal.SIGKILL))
    timer.start()
    try:
        _, status, usage = os.wait4(process.pid, 0)
    finally:
        timer.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage


def shared_text(name, size, folder):
    """The first `size` bytes of an .xz text of the shared data, as a file; skips the test if absent."""
    path = SHARED / "data" / (name + ".xz")
    if not path.exists():
        raise unittest.SkipTest(f"no {path}")
    target = Path(folder) / name
    with lzma.open(path) as f:
        target.write_bytes(f.read(size))
    return target


class ProgramTest(unittest.TestCase):
    maxDiff = None

    def succeeds(self, *arguments, **more):
        outcome = venturi(*arguments, **more)
        self.assertEqual(outcome.code, 0, f"{arguments}: {outcome}")
        return outcome

    def fails(self, code, *arguments, **more):
        """Fails as every command must: nothing on stdout, one to three short lines on stderr."""
        outcome = venturi(*arguments, **more)
        self.assertEqual(outcome.code, code, f"{arguments}: {outcome}")
        self.assertEqual(outcome.out, "", f"{arguments} wrote to standard output")
        lines = outcome.err.strip().splitlines()
        self.assertTrue(1 <= len(lines) <= 2, f"{arguments}: {len(lines)} lines of error: {outcome.err}")
        return outcome.err

    def json_of(self, *arguments, **more):
        return json.loads(self.succeeds(*arguments, **more).out)


def main():
    """unittest's main, but exit code 77 when every test was skipped; with VENTURI_MUST_RUN set, a skip is a failure."""
    program = unittest.main(argv=[sys.argv[0], *_rest], exit=False, verbosity=2)
    result = program.result
    if not result.wasSuccessful() or result.testsRun + len(result.skipped) == 0 or (result.skipped and os.environ.get("VENTURI_MUST_RUN")):
        sys.exit(1)
    # A class that is skipped when it is set up counts no tests.
    whole = sum(isinstance(test, unittest.TestCase) for test, _ in result.skipped)
    sys.exit(77 if whole >= result.testsRun else 0)
