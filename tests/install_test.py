"""The installed library: what `cmake --install` gives, found by CMake and by pkg-config, in C and in C++."""
import os
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

import support
from support import MODEL, OPTIONS, SOURCE, ProgramTest, clean_environment

EXAMPLES = SOURCE / "examples"
PROMPT = "It was late"


def run(*command, **more):
    result = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=600, **more)
    if result.returncode != 0:
        raise AssertionError(f"{command}: {result.returncode}\n{result.stdout[-3000:]}\n{result.stderr[-3000:]}")
    return result.stdout


@unittest.skipIf(OPTIONS.sanitized, "a sanitized library wants a sanitized program")
class Installed(ProgramTest):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)
        first = cls.folder / "first"
        run("cmake", "--install", OPTIONS.build, "--prefix", first)
        # The prefix may be moved.
        cls.prefix = cls.folder / "prefix"
        first.rename(cls.prefix)
        (cls.library,) = cls.prefix.rglob("libventuri.so")
        cls.environment = clean_environment({"PKG_CONFIG_PATH": str(cls.library.parent / "pkgconfig")})

    def build_with_cmake(self):
        build = self.folder / "examples"
        run("cmake", "-S", EXAMPLES, "-B", build, f"-DCMAKE_PREFIX_PATH={self.prefix}", "-DCMAKE_BUILD_TYPE=Release")
        run("cmake", "--build", build)
        return build

    def expected(self, n):
        return self.succeeds("run", "-m", MODEL, "-q", "-p", PROMPT, "-n", n, "--temp", 0).out[len(PROMPT):]

    def test_only_the_interface_is_exported(self):
        names = {line.split()[-1].split("@")[0] for line in run("nm", "-D", "--defined-only", self.library).splitlines()}
        names.discard("VENTURI_0")
        declared = set(re.findall(r"\b(venturi_\w+)\(", re.sub(r"/\*.*?\*/", "", (SOURCE / "include/venturi/venturi.h").read_text(),
                                                                flags=re.S)))
        self.assertEqual(names, declared)

    def test_examples_found_by_cmake(self):
        build = self.build_with_cmake()
        self.assertEqual(run(build / "complete", MODEL, PROMPT, 12), self.expected(12))
        text = self.folder / "text"
        text.write_text("It was the best of times, it was the worst of times. " * 8)
        perplexity = float(run(build / "perplexity", MODEL, text))
        self.assertTrue(1 < perplexity < 500, perplexity)
        # With an adapter, and within a budget that counts it.
        base = SOURCE / "tests/data/models/llama-plain.gguf"
        adapter = SOURCE / "tests/data/adapters/llama-all"
        adapted = self.succeeds("run", "-m", base, "-q", "-p", "the house", "-n", 12, "--temp", 0, "--lora", adapter).out[len("the house"):]
        # The library gives whole characters, the program shows that one was cut at the end.
        self.assertEqual(run(build / "complete", base, "the house", 12, 50, adapter).rstrip("\n\ufffd"), adapted.rstrip("\n\ufffd"))
        self.assertNotEqual(run(build / "complete", base, "the house", 12, 50), adapted)
        result = subprocess.run([build / "complete", base, "the house", "4", "50", "/no/such/adapter"], capture_output=True, text=True)
        self.assertEqual(result.returncode, 2, result)
        # An error of the library is a value with its code and its line.
        result = subprocess.run([build / "complete", MODEL, PROMPT * 200, "4"], capture_output=True, text=True)
        self.assertEqual(result.returncode, 5, result)
        self.assertIn("do not fit the context", result.stderr)
        result = subprocess.run([build / "perplexity", "/no/such/model", text], capture_output=True, text=True)
        self.assertEqual(result.returncode, 2, result)
        self.assertIn("/no/such/model", result.stderr)

    @unittest.skipUnless(shutil.which("pkg-config"), "no pkg-config")
    def test_examples_found_by_pkg_config(self):
        flags = run("pkg-config", "--cflags", "--libs", "venturi", env=self.environment).split()
        rpath = f"-Wl,-rpath,{self.library.parent}"
        c, cc = self.folder / "c", self.folder / "cc"
        run("cc", "-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", EXAMPLES / "complete.c", "-o", c, *flags, rpath)
        run("c++", "-std=c++20", "-Wall", "-Wextra", "-Werror", EXAMPLES / "perplexity.cc", "-o", cc, *flags, rpath)
        self.assertEqual(run(c, MODEL, PROMPT, 12), self.expected(12))
        version = run("pkg-config", "--modversion", "venturi", env=self.environment).strip()
        self.assertEqual(self.succeeds("--version").out, f"venturi {version}\n")

    def test_the_installed_program_finds_its_model(self):
        out = run(self.prefix / "bin" / "venturi", "run", "-q", "-p", PROMPT, "-n", 12, "--temp", 0, cwd=self.folder,
                  env=clean_environment())
        self.assertEqual(out, PROMPT + self.expected(12))


if __name__ == "__main__":
    support.main()
