"""TRY within braces: what stands before it there is built and, when TRY returns, destroyed by neither GCC nor Clang.
So a TRY may be the first in a braced list, not a later one."""
import re
import unittest

import support
from support import SOURCE


def blanked(text):
    """Comments, strings and characters as spaces of the same length."""
    token = re.compile(r'//[^\n]*|/\*.*?\*/|R"\(.*?\)"|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])\'', re.S)
    return token.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), text)


def leaks(text):
    """Where a TRY comes after a comma of a braced list that holds it, however deep in calls."""
    text = blanked(text)
    for found in re.finditer(r"\bTRY\(", text):
        depth, comma = 0, False
        for i in range(found.start() - 1, -1, -1):
            c = text[i]
            if c in ")]}":
                depth += 1
            elif depth and c in "([{":
                depth -= 1
            elif depth:
                continue
            elif c == ";":
                break
            elif c == ",":
                comma = True
            elif c in "([":
                comma = False  # of a call: its arguments are destroyed
            elif c == "{":
                before = text[:i].rstrip()
                if before.endswith((")", "]", ";", "{", "}", "else", "try", "do", "const", "override", ">")):
                    break  # a block
                if comma:
                    yield text.count("\n", 0, found.start()) + 1
                    break


class Try(unittest.TestCase):
    def test_the_search_itself(self):
        for code, lines in (("S s{a(), TRY(b())};", [1]), ("S s{\n.a = x,\n.b = f(TRY(y))};", [3]), ("S s{.a = TRY(x)};", []),
                            ("f(a, TRY(b));", []), ("void f() {\n  int a = TRY(x), b = TRY(y);\n}", []), ("v.push_back({x, TRY(y)});", [1]),
                            ("return S{f(TRY(x)), 1};", []), ("json j = {{\"a, b\", 1}, {\"c\", TRY(d)}};", [1])):
            with self.subTest(code=code):
                self.assertEqual(list(leaks(code)), lines)

    def test_no_braced_list_holds_one_behind_another_member(self):
        for path in sorted(p for folder in ("src", "benchmarks", "fuzz", "examples") for p in (SOURCE / folder).rglob("*")):
            if path.suffix in (".cc", ".h"):
                with self.subTest(file=str(path.relative_to(SOURCE))):
                    self.assertEqual(list(leaks(path.read_text())), [], "read it into a variable first")


if __name__ == "__main__":
    support.main()
