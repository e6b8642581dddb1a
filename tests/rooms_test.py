"""Rooms in CMake, beside what tests/include_rule.py says about includes: every folder under src/ is a
room, a room links only rooms above it, and includes are spelt from src/, so that the rule sees them."""
import re
import unittest

import support
from support import SOURCE

ROOMS = re.findall(r"^add_subdirectory\((\w+)\)", (SOURCE / "src/CMakeLists.txt").read_text(), re.M)


class Rooms(unittest.TestCase):
    def test_every_folder_is_a_room(self):
        folders = sorted(p.name for p in (SOURCE / "src").iterdir() if p.is_dir())
        self.assertEqual(folders, sorted(ROOMS))

    def test_a_room_links_only_rooms_above_it(self):
        checked = 0
        for room in ROOMS:
            text = (SOURCE / "src" / room / "CMakeLists.txt").read_text()
            for dependency in re.findall(r"\bventuri_(\w+)", text):
                if dependency in ROOMS and dependency != room:
                    checked += 1
                    with self.subTest(room=room, dependency=dependency):
                        self.assertLess(ROOMS.index(dependency), ROOMS.index(room))
        self.assertGreater(checked, 8)

    def test_includes_are_spelt_from_src(self):
        checked = 0
        for path in sorted((SOURCE / "src").rglob("*")):
            if path.suffix not in (".cc", ".h", ".inc"):
                continue
            for include in re.findall(r'^\s*#\s*include\s+"([^"]+)"', path.read_text(), re.M):
                checked += 1
                with self.subTest(file=str(path.relative_to(SOURCE)), include=include):
                    self.assertTrue(include.endswith(("_registry.inc", "_files.inc")) or (SOURCE / "src" / include).exists())
        self.assertGreater(checked, 300)


if __name__ == "__main__":
    support.main()
