"""Documents are tested like code: the files they name exist, links lead somewhere, commands they
show are ones the program takes, and the README's table of commands is the program's."""
import re
import shlex
import subprocess
import unittest

import support
from support import SOURCE, ProgramTest

FOLDERS = ("src", "docs", "tests", "scripts", "tools", "models", "fuzz", "cmake", "benchmarks", "include", ".ci")
PLACEHOLDER = re.compile(r"[<>*]|\bx_|NAME|FILE")


def documents():
    listed = subprocess.run(["git", "-C", SOURCE, "ls-files", "--cached", "--others", "--exclude-standard",
                             "*.md"], capture_output=True, text=True)
    names = listed.stdout.split() if listed.returncode == 0 else [
        str(p.relative_to(SOURCE)) for p in SOURCE.rglob("*.md") if "build" not in p.relative_to(SOURCE).parts]
    return [SOURCE / name for name in names]


def without_code(text):
    return re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)


def shell_lines(text):
    """Lines of shell code: fenced as sh, or after "$ ", or indented in plain Markdown."""
    lines = []
    for language, body in re.findall(r"^```(\w*)\n(.*?)^```", text, re.S | re.M):
        body = body.replace("\\\n", " ")
        if language in ("sh", "bash"):
            lines += body.splitlines()
        lines += re.findall(r"^\$ (.*)", body, re.M)
    lines += re.findall(r"^ {4}(\S.*)", without_code(text).replace("\\\n", " "), re.M)
    return lines


def anchors(path):
    heads = re.findall(r"^#+ (.*)", without_code(path.read_text()), re.M)
    return [re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads]


class Paths(unittest.TestCase):
    def test_there_are_documents(self):
        names = [str(d.relative_to(SOURCE)) for d in documents()]
        for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/architecture.md", "docs/glossary.md",
                     "docs/performance.md", "models/README.md"):
            self.assertIn(name, names)

    def test_paths_that_documents_name_exist(self):
        checked = 0
        for document in documents():
            for code in re.findall(r"`([^`\n]+)`", without_code(document.read_text())):
                if not re.match(rf"(?:{'|'.join(map(re.escape, FOLDERS))})/[\w./*<>-]*$", code):
                    continue
                if "*" in code and not re.search("[<>]", code):
                    found = list(SOURCE.glob(code))
                elif PLACEHOLDER.search(code):
                    continue
                else:
                    found = (SOURCE / code).exists()
                checked += 1
                with self.subTest(document=document.name, path=code):
                    self.assertTrue(found)
        self.assertGreater(checked, 40)

    def test_links_lead_somewhere(self):
        checked = 0
        for document in documents():
            for target in re.findall(r"\]\(([^)\s]+)\)", without_code(document.read_text())):
                if re.match(r"\w+://|mailto:", target):
                    continue
                path, _, anchor = target.partition("#")
                file = (document.parent / path).resolve() if path else document
                checked += 1
                with self.subTest(document=document.name, link=target):
                    self.assertTrue(file.exists())
                    if anchor:
                        self.assertIn(anchor, anchors(file))
        self.assertGreater(checked, 15)

    def test_decisions_say_what_why_what_else_and_when_to_revisit(self):
        pages = sorted((SOURCE / "docs/decisions").glob("*.md"))
        # A number is taken when a page is begun, so one may be missing for a while; none is taken twice.
        numbers = [p.name[:3] for p in pages]
        self.assertEqual(sorted(set(numbers)), numbers)
        self.assertTrue(all(n.isdigit() for n in numbers))
        for page in pages:
            text = page.read_text()
            for part in ("**What.**", "**Why.**", "**What else.**", "**When to revisit.**"):
                with self.subTest(page=page.name, part=part):
                    self.assertIn(part, text)
            self.assertIn(f"# {page.name[:3]}. ", text)

    def test_rooms_are_those_of_the_build_in_its_order(self):
        order = re.findall(r"^add_subdirectory\((\w+)\)", (SOURCE / "src/CMakeLists.txt").read_text(), re.M)
        text = (SOURCE / "docs/architecture.md").read_text()
        self.assertEqual(re.findall(r"^\| `src/(\w+)/` \|", text, re.M), order)
        picture = (SOURCE / "docs/architecture.svg").read_text()
        self.assertIn(f"Order of rooms: {', '.join(order)}.", picture)

    def test_nothing_of_one_machine_is_written_down(self):
        for document in documents():
            with self.subTest(document=document.name):
                self.assertNotRegex(document.read_text(), r"(?<![\w.])/(?:work|tmp|home|root)/")


class Commands(ProgramTest):
    @classmethod
    def setUpClass(cls):
        cls.help = {}

    def help_of(self, *command):
        if command not in self.help:
            self.help[command] = self.succeeds(*command, "--help").out
        return self.help[command]

    def program_commands(self):
        return re.findall(r"^  (\S+)", self.help_of().split("Subcommands:\n")[1].split("\n\n")[0], re.M)

    def flags_of(self, command):
        entries = re.findall(r"^  (-\S+)", self.help_of(command), re.M)
        return {name for entry in entries for name in entry.split(",")}

    def test_the_table_of_commands_in_the_readme_is_the_programs(self):
        shown = re.findall(r"^\| `venturi (\w+)` \|", (SOURCE / "README.md").read_text(), re.M)
        self.assertEqual(sorted(shown), sorted(self.program_commands()))

    def test_commands_that_documents_show_are_taken(self):
        checked = 0
        for document in documents():
            for line in shell_lines(document.read_text()):
                for words in self.invocations(line):
                    checked += 1
                    with self.subTest(document=document.name, line=line):
                        self.check(words)
        self.assertGreater(checked, 10)

    @staticmethod
    def invocations(line):
        """The words after `venturi`, for each call in a line of shell."""
        for part in re.split(r"\s[|;&]+\s|<\(|\)", line):
            try:
                words = shlex.split(part, comments=True)
            except ValueError:
                continue
            while words and re.match(r"\w+=", words[0]):
                words = words[1:]
            if words and words[0].rpartition("/")[2] == "venturi":
                yield words[1:]

    def check(self, words):
        command = words[0] if words else ""
        if command in ("COMMAND", "--help", "--version"):
            return
        self.assertIn(command, self.program_commands())
        flags = self.flags_of(command)
        for word in words[1:]:
            name = word.split("=")[0]
            if re.match(r"--?[a-zA-Z]", name):
                self.assertIn(name, flags, f"venturi {command} has no {name}")

    def test_inline_commands_are_taken(self):
        """`venturi bench --ops` in a sentence."""
        for document in documents():
            for code in re.findall(r"`venturi ([^`\n]+)`", without_code(document.read_text())):
                with self.subTest(document=document.name, code=code):
                    words = shlex.split(code)
                    # The guide's example is a command that the program does not have.
                    if words[0] not in ("count", "COMMAND"):
                        self.check(words)

    def test_make_targets_that_documents_show_exist(self):
        targets = set(re.findall(r"^(\w+):", (SOURCE / "Makefile").read_text(), re.M))
        for document in documents():
            for target in re.findall(r"(?:`|^ {4})make (\w+)", document.read_text(), re.M):
                with self.subTest(document=document.name, target=target):
                    self.assertIn(target, targets)

    def test_the_refusal_in_the_readme_is_what_the_program_says(self):
        text = (SOURCE / "README.md").read_text()
        command, shown = re.search(r"```\n\$ venturi (.*?)\n```\n\n```text\n(.*?)```", text, re.S).groups()
        message = self.fails(3, *shlex.split(command), cwd=SOURCE)

        def shape(words):  # amounts depend a little on threads and instruction set
            return re.sub(r"\d+(?:\.\d+)?", "#", " ".join(words.split()))

        self.assertEqual(shape(message), shape(shown))


if __name__ == "__main__":
    support.main()
