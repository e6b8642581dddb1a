"""Rooms: a folder under src/ may include only from itself and from rooms above it in
src/CMakeLists.txt; a room's CMake dependencies follow the same order. And files stay readable."""
import re
import unittest

import support
from support import SOURCE

LONGEST_FILE_LINES = 800


def rooms():
    text = (SOURCE / "src/CMakeLists.txt").read_text()
    return re.findall(r"^add_subdirectory\((\w+)\)", text, re.M)


def sources(folder):
    return sorted(p for p in folder.rglob("*") if p.suffix in (".cc", ".h", ".inc"))


def forbidden_includes(path, room, order):
    """Includes of `path`, a file of `room`, that the order does not allow."""
    allowed = set(order[:order.index(room) + 1])
    for include in re.findall(r'^\s*#\s*include\s+"([^"]+)"', path.read_text(), re.M):
        first = include.split("/")[0]
        if "/" in include and first in order and first not in allowed:
            yield include


class IncludeRule(unittest.TestCase):
    def test_every_folder_is_a_room(self):
        folders = sorted(p.name for p in (SOURCE / "src").iterdir() if p.is_dir())
        self.assertEqual(folders, sorted(rooms()))

    def test_rooms_include_only_what_is_above_them(self):
        order = rooms()
        checked = 0
        for room in order:
            for path in sources(SOURCE / "src" / room):
                checked += 1
                with self.subTest(file=str(path.relative_to(SOURCE))):
                    self.assertEqual(list(forbidden_includes(path, room, order)), [])
        self.assertGreater(checked, 100)

    def test_project_includes_name_the_room(self):
        """"codecs/codec.h", not "codec.h": one spelling, and the rule above can see it."""
        generated = re.compile(r"_registry\.inc$")
        for path in sources(SOURCE / "src"):
            for include in re.findall(r'^\s*#\s*include\s+"([^"]+)"', path.read_text(), re.M):
                with self.subTest(file=str(path.relative_to(SOURCE)), include=include):
                    self.assertTrue(generated.search(include) or (SOURCE / "src" / include).exists())

    def test_cmake_links_only_rooms_above(self):
        order = rooms()
        for room in order:
            text = (SOURCE / "src" / room / "CMakeLists.txt").read_text()
            for dependency in re.findall(r"\bventuri_(\w+)", text):
                if dependency in order and dependency != room:
                    with self.subTest(room=room, dependency=dependency):
                        self.assertLess(order.index(dependency), order.index(room))

    def test_the_rule_can_fail(self):
        import tempfile
        from pathlib import Path
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "x.cc"
            path.write_text('#include "engine/engine.h"\n#include "base/file.h"\n')
            self.assertEqual(list(forbidden_includes(path, "codecs", rooms())), ["engine/engine.h"])

    def test_files_stay_readable(self):
        folders = ("src", "fuzz", "benchmarks", "tests", "tools", "scripts", "include")
        for folder in folders:
            for path in (SOURCE / folder).rglob("*"):
                if path.suffix in (".cc", ".h", ".inc", ".py", ".sh"):
                    with self.subTest(file=str(path.relative_to(SOURCE))):
                        self.assertLessEqual(len(path.read_text().splitlines()), LONGEST_FILE_LINES)


if __name__ == "__main__":
    support.main()
