"""The how-to guides: their examples are compiled, linked into programs and run.

The example of a guide joins the registry of its kind, as a file in the folder would; everything
else is the objects and libraries of the build that is being tested.
"""
import json
import re
import shlex
import subprocess
import tempfile
import unittest
from pathlib import Path

import support
from support import MODEL, OPTIONS, SOURCE

GOLDEN = json.loads((SOURCE / "tests/data/tiny_llama_greedy.json").read_text())


def example(guide):
    """The path that the guide gives its example, and the example."""
    text = (SOURCE / "docs" / guide).read_text()
    found = re.findall(r"```cpp\n// (src/\S+)\n(.*?)```", text, re.S)
    assert len(found) == 1, f"{guide}: expected one example that begins with its path"
    return found[0]


class Scratch:
    """A folder with an example, its registry, and whatever is compiled and linked there."""

    def __init__(self, folder, guide, registry, type_name, prefix):
        self.folder = Path(folder)
        path, text = example(guide)
        assert not (SOURCE / path).exists(), f"{guide}: {path} is in the tree already"
        self.example = self.folder / Path(path).name
        self.example.write_text(text)
        self.sibling = next(p for p in sorted((SOURCE / path).parent.glob("*.cc")))
        original = (OPTIONS.build / "generated" / registry).read_text()
        name = prefix + Path(path).stem
        changed = original.replace("\n\ninline const", f"\nextern const {type_name} {name};\n\ninline const")
        changed = changed.replace("[] = {\n", f"[] = {{\n    &{name},\n")
        assert changed.count(name) == 2, changed
        (self.folder / registry).write_text(changed)
        commands = json.loads((OPTIONS.build / "compile_commands.json").read_text())
        self.commands = {c["file"]: c for c in commands}

    def compile(self, source, like):
        """Compiles `source` with the flags of the tree's file `like`; returns the object."""
        entry = self.commands[str(like)]
        words = shlex.split(entry["command"])
        output = self.folder / (source.stem + ".o")
        words[words.index("-o") + 1] = str(output)
        words[words.index("-c") + 1] = str(source)
        compiler = next(i for i, w in enumerate(words) if w.startswith("-"))
        words.insert(compiler, f"-I{self.folder}")
        self.run(words, cwd=entry["directory"])
        return output

    def link(self, target, objects, without=()):
        """Links `target` of the build with `objects` first, leaving out its objects named `without`."""
        command = subprocess.run(["ninja", "-C", OPTIONS.build, "-t", "commands", "-s", target], check=True,
                                 capture_output=True, text=True).stdout.strip().splitlines()[-1]
        command = re.sub(r"^: && ", "", re.sub(r" && (:|cd .*)$", "", command))
        words = [w for w in shlex.split(command) if Path(w).name not in without]
        output = self.folder / Path(target).name
        words[words.index("-o") + 1] = str(output)
        first = next(i for i, w in enumerate(words) if w.endswith(".o"))
        words[first:first] = map(str, objects)
        self.run(words, cwd=OPTIONS.build)
        return output

    @staticmethod
    def run(words, cwd=None):
        done = subprocess.run([str(w) for w in words], cwd=cwd, capture_output=True, text=True,
                              env=support.clean_environment())
        if done.returncode != 0:
            raise AssertionError(f"{shlex.join(map(str, words))}\n{done.stdout}{done.stderr}")
        return done.stdout


class Guides(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def test_codec(self):
        s = Scratch(self.folder, "how_to_add_a_codec.md", "codec_registry.inc", "Codec", "codec_")
        room = SOURCE / "src/codecs"
        objects = [s.compile(s.example, s.sibling), s.compile(room / "codec.cc", room / "codec.cc")]
        program = s.link("src/codecs/venturi_codecs_test", objects)
        listed = s.run([program, "--gtest_list_tests"])
        self.assertIn("GUIDE_Q4", listed, "the conformance test does not see the example")
        # All but the two tests that must be told what the format is, as the guide says.
        out = s.run([program, "--gtest_filter=*GUIDE_Q4*:CodecRegistry.FindsEveryMemberByNameAndId"
                              ":-*Golden*:*NoBlockIsWorseThanPlainRounding*"])
        self.assertGreater(int(re.search(r"PASSED\D+(\d+) tests", out).group(1)), 12)

    def test_architecture(self):
        s = Scratch(self.folder, "how_to_add_an_architecture.md", "architecture_registry.inc", "Architecture",
                    "architecture_")
        room = SOURCE / "src/models"
        objects = [s.compile(s.example, s.sibling), s.compile(room / "architecture.cc", room / "architecture.cc")]
        program = s.link("venturi", objects)
        # "guide" has as many letters as "llama": the file's lengths and offsets stay true.
        renamed = MODEL.read_bytes().replace(b"llama.", b"guide.")
        key = b"general.architecture"
        at = renamed.index(b"llama", renamed.index(key))
        self.assertLess(at, renamed.index(key) + len(key) + 20)
        renamed = renamed[:at] + b"guide" + renamed[at + 5:]
        model = s.folder / "guide.gguf"
        model.write_bytes(renamed)
        out = s.run([program, "run", "-m", model, "-p", GOLDEN["prompt"], "-n", 32, "--temp", 0, "--ids"])
        self.assertEqual([int(w) for w in out.split()], GOLDEN["greedy_ids"])

    def test_command(self):
        s = Scratch(self.folder, "how_to_add_a_command.md", "command_registry.inc", "Command", "command_")
        room = SOURCE / "src/cli"
        objects = [s.compile(s.example, s.sibling), s.compile(room / "main.cc", room / "main.cc")]
        program = s.link("venturi", objects, without=("main.cc.o",))
        self.assertIn("Count the tokens", s.run([program, "--help"]))
        out = s.run([program, "count", "-m", MODEL, "-p", GOLDEN["prompt"], "--json"])
        self.assertEqual(json.loads(out), {"tokens": len(GOLDEN["prompt_ids"]) - 1})


if __name__ == "__main__":
    support.main()
